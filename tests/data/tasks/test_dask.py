"""Two real worker processes of a real Dask scheduler build the corpus that this process builds alone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tenfold.core import InputError
from tenfold.data import Manifest, build_corpus
from tests.data.tasks.builds import build_mixture, cut_small, mixture, write_mixture
from tests.waiting import until

ROOT = Path(__file__).parents[3]
WORKERS = 2


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers."""
    directory = tmp_path_factory.mktemp("dask")
    file = directory / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    commands = [["distributed.cli.dask_scheduler", "--port", "0", *common]]
    commands += [["distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", *common]] * WORKERS
    with ExitStack() as stack:
        for number, (module, *arguments) in enumerate(commands):
            log = stack.enter_context((directory / f"log-{number}").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=directory,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"},
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            if not number:
                until(lambda: file.exists() and file.stat().st_size > 0)
        logs = [directory / f"log-{number}" for number in range(1, len(commands))]
        until(lambda: all("Starting established connection" in log.read_text() for log in logs))
        yield json.loads(file.read_text())["address"]


def test_two_workers_of_dask_build_the_same_corpus(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mixture(tmp_path)
    alone = build_mixture(tmp_path, "alone", workers=1)
    cut_small(monkeypatch)
    assert build_mixture(tmp_path, "dask", engine="dask", scheduler=scheduler) == alone
    assert Manifest.load(tmp_path / "dask").verify(tmp_path / "dask") > 0


def test_what_a_task_refuses_is_the_same_line_as_here(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch)
    write_mixture(tmp_path)
    lossy = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    lossy.pre_tokenizer, lossy.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    lossy.save(str(tmp_path / "tokenizer.json"))
    data = mixture(tmp_path, engine="dask", scheduler=scheduler)
    data = data.model_copy(update={"tokenizer": data.tokenizer.model_copy(update={"path": "tokenizer.json"})})
    with pytest.raises(InputError, match=r"data\.tokenizer\.path: this tokenizer does not keep every byte"):
        build_corpus(data, 1, tmp_path / "refused", tmp_path, lambda _: None)
    assert not (tmp_path / ".refused.work").exists()


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenfold.data.tasks.dask.SECONDS_TO_CONNECT", 1)
    write_mixture(tmp_path)
    with pytest.raises(InputError, match=r"data\.scheduler: tcp://127\.0\.0\.1:9 does not answer"):
        build_mixture(tmp_path, "never", engine="dask", scheduler="tcp://127.0.0.1:9")
