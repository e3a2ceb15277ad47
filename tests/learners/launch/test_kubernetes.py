"""The manifest of docs/kubernetes: its command is one that the command line takes, and its pods' folders are enough."""

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tenfold.cli import app
from tests.learners.process import LoggedProcess
from tests.learners.small import (
    committed_samples,
    kill_everything,
    learners_campaign,
    lives,
    merges,
    start_training,
    total_samples,
)
from tests.waiting import until

FOLDER = Path(__file__).parents[3] / "docs" / "kubernetes"
MANIFEST: dict[str, Any] = yaml.safe_load((FOLDER / "learner.yaml").read_text())
POD: dict[str, Any] = MANIFEST["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def arguments(index: int, syncer: str) -> list[str]:
    """The container's arguments as the pod of this index gets them."""
    values = {variable["name"]: variable.get("value") for variable in CONTAINER["env"]}
    assert set(values) == {"SYNCER", "INDEX"}
    assert re.fullmatch(r"[a-z.]+:\d+", values["SYNCER"])
    values = {"SYNCER": syncer, "INDEX": str(index)}
    return [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], word) for word in CONTAINER["args"]]


def test_the_command_line_takes_every_word() -> None:
    command, verb, *words = arguments(2, "syncer.example:7000")
    learner = typer.main.get_command(app).commands[command].commands[verb]  # type: ignore[attr-defined]
    given = learner.make_context(command, words).params
    assert {key: value for key, value in given.items() if value} == {
        "campaign": Path("/campaign"),
        "name": "kubernetes-2",
        "syncer": "syncer.example:7000",
        "token_file": Path("/secret/token"),
        "tls_root": Path("/secret/cert.pem"),
    }


def test_every_mount_has_its_volume_and_pods_have_indices() -> None:
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}
    assert MANIFEST["spec"]["completionMode"] == "Indexed"
    assert POD["restartPolicy"] == "Never", "a policy for failures of pods needs it"
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["tenfold"]' in dockerfile
    assert f"USER {POD['securityContext']['runAsUser']}\n" in dockerfile


class Pods:
    """Pods of the manifest as processes of this machine: what it mounts is all they get."""

    def __init__(self, campaign: Path, certificate: Path, folder: Path) -> None:
        self._folder = folder
        secret = folder / "secret"
        secret.mkdir(parents=True)
        shutil.copy(campaign / "learners" / "token", secret / "token")
        shutil.copy(certificate, secret / "cert.pem")
        self._campaign = campaign

    def start(self, index: int, syncer: str) -> LoggedProcess:
        pod = self._folder / f"pod-{index}"
        pod.mkdir()
        shutil.copy(self._campaign / "campaign.toml", pod)
        shutil.copytree(self._campaign / "data", pod / "data")
        places = {"/campaign": str(pod), "/secret/": f"{self._folder}/secret/"}
        words = arguments(index, syncer)
        for mounted, here in places.items():
            words = [word.replace(mounted, here) for word in words]
        return LoggedProcess(words)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("no `openssl` to make a certificate with")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=syncer"
    where = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *where], check=True, capture_output=True)
    return certificate, key


@pytest.mark.slow
def test_a_pod_that_is_asked_to_go_sends_what_it_has_and_another_ends_the_run(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    campaign = learners_campaign(tmp_path / "my", tokens=20_480)
    settings = ['launch="none"', "stalled_after=120"]
    settings += [f'tls_{name}="{path}"' for name, path in zip(("certificate", "key"), certificate, strict=True)]
    train = start_training(campaign, *(word for setting in settings for word in ("--set", f"learners.{setting}")))
    pods: list[LoggedProcess] = []
    try:
        card = campaign / "learners" / "syncer.json"
        until(card.exists)
        syncer = json.loads(card.read_text())["address"]
        place = Pods(campaign, certificate[0], tmp_path / "node")
        pods.append(place.start(0, syncer))
        until(lambda: merges(campaign) >= 2)
        pods[0].send_signal(signal.SIGTERM)
        pods[0].wait()
        assert "stopped as asked; what it trained is sent" in pods[0].said
        pods.append(place.start(1, syncer))
        assert train.wait() == 0, train.said
        assert pods[1].wait() == 0, pods[1].said
    finally:
        kill_everything(train)
        for pod in pods:
            pod.close()
    assert lives(campaign) == ["kubernetes-0", "kubernetes-1"]
    assert committed_samples(campaign) == list(range(total_samples(campaign)))
