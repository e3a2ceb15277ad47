"""The whole job on real text: exact, resumable, skipped when done, reported."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tenfold.campaign import (
    init_campaign,
    run_audit,
    run_campaign,
    run_data,
    run_evaluate,
    run_export,
    run_report,
    run_train,
)
from tenfold.config import load_campaign
from tenfold.core.errors import InputError, TenfoldError
from tenfold.ledger import Ledger
from tenfold.pages.plan import write_plan
from tests import warm
from tests.campaign.browser import open_browser
from tests.campaign.plan.example import llama_plan
from tests.campaign.small import built_campaign, copy_of, finished_campaign, new_campaign
from tests.warm import run_ranks

ROOT = Path(__file__).parents[2]
Result = dict[str, object]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_campaign(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def digest(finished: Path) -> str:
    return str(json.loads((finished / "train.json").read_text())["weights_digest"])


def in_process(directory: Path, *arguments: str, **environment: str) -> Result:
    """`tenfold train --json` in a process of its own."""
    done = warm.run(["train", str(directory), "--json", *arguments], env=os.environ | environment, check=True)
    return dict(json.loads(done.stdout))


def only_data(finished: Path, to: Path) -> Path:
    """A copy with the corpus but nothing trained."""
    directory = copy_of(finished, to)
    shutil.rmtree(directory / "checkpoints")
    for name in ("train.json", "evaluation.json", "ledger.sqlite"):
        (directory / name).unlink()
    return directory


def test_a_plan_beside_the_campaign_is_in_its_report_and_a_broken_one_costs_no_report(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign = copy_of(finished, tmp_path / "planned")
    write_plan(llama_plan(), campaign / "plan.json")
    run_report(campaign, ())
    assert json.loads((campaign / "report.json").read_text())["layout_plan"] == json.loads(
        (campaign / "plan.json").read_text()
    )
    assert "<h2>Plan</h2>" in (campaign / "report.html").read_text()
    (campaign / "plan.json").write_text("{}")
    run_report(campaign, ())
    assert "plan.json: asked: " in capsys.readouterr().err
    assert json.loads((campaign / "report.json").read_text())["layout_plan"] is None
    assert "<h2>Plan</h2>" not in (campaign / "report.html").read_text()


def test_the_report_has_what_others_rely_on(finished: Path, digest: str) -> None:
    report = json.loads((finished / "report.json").read_text())
    iid = report["holdouts"]["iid"]
    assert 0 < iid["bits_per_byte"] < 8 and 0 < iid["xz_bits_per_byte"] < 8
    assert iid["bytes"] == next(h for h in report["data"]["holdouts"] if h["name"] == "iid")["bytes"]
    assert report["weights_digest"] == digest
    assert report["throughput"]["tokens_per_second"] > 0
    assert report["run"]["tokens"] == 10240 and report["run"]["status"] == "done"
    assert all(check["passed"] for check in report["data"]["audit"])
    page = (finished / "report.html").read_text()
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_it_learns(finished: Path) -> None:
    ledger = Ledger(finished / "ledger.sqlite", read_only=True)
    losses = [value for _, value in ledger.metric(1, "train/loss")]
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    ledger.close()


def test_running_again_does_nothing_and_says_the_same(finished: Path, digest: str) -> None:
    before = (finished / "ledger.sqlite").stat().st_mtime_ns
    assert run_campaign(finished, ())["weights_digest"] == digest
    assert (finished / "ledger.sqlite").stat().st_mtime_ns == before


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    finished: Path, digest: str, tmp_path: Path
) -> None:
    assert in_process(only_data(finished, tmp_path / "again"))["weights_digest"] == digest
    other = only_data(finished, tmp_path / "other")
    (other / "campaign.toml").write_text("seed = 2\n" + (other / "campaign.toml").read_text())
    assert run_campaign(other, ())["weights_digest"] != digest


def test_checkpoints_and_evaluations_do_not_touch_the_weights(finished: Path, digest: str, tmp_path: Path) -> None:
    overrides = ("checkpoint.every=3", "evaluate.every=2", "train.log_every=1")
    result = run_train(only_data(finished, tmp_path / "often"), overrides)
    assert result is not None and result["weights_digest"] == digest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(
    number: signal.Signals, finished: Path, digest: str, tmp_path: Path
) -> None:
    directory = only_data(finished, tmp_path / "stopped")
    words = ["train", str(directory), "--set", "checkpoint.every=1000"]
    with warm.start(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("step 10/40") for line in lines)
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "is saved. Run the same command again to go on" in rest
    assert in_process(directory)["weights_digest"] == digest


@pytest.mark.slow
def test_sigkill_and_resume_end_in_the_same_weights(tmp_path: Path) -> None:
    """The short form of benchmarks/crash.py: the whole run killed again and again, each time a few steps further on."""
    reference = run_campaign(new_campaign(tmp_path / "reference"), ())["weights_digest"]
    directory = new_campaign(tmp_path / "killed")
    words = ["run", str(directory), "--json", "--set", "checkpoint.every=2", "--set", "train.log_every=1"]
    for step in (5, 12, 21, 32):
        with warm.start(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
            assert run.stderr is not None
            said = lines_up_to(f"step {step:>2}/40", run.stderr)
            saved = checkpoints_of(directory)
            run.kill()
        assert run.returncode == -signal.SIGKILL, "".join(said)
        assert saved and max(saved) >= step - 4, "killed before there was anything to resume from"
    assert any(line.startswith("resumed from") for line in said)
    assert run_campaign(directory, ())["weights_digest"] == reference


def lines_up_to(start: str, stream: IO[str]) -> list[str]:
    """What is said before the line that starts so."""
    return list(itertools.takewhile(lambda line: not line.startswith(start), stream))


def checkpoints_of(directory: Path) -> list[int]:
    """Steps of the whole checkpoints of a campaign."""
    return sorted(int(path.name.removeprefix("step-")) for path in (directory / "checkpoints").glob("step-*"))


def torchrun(directory: Path, ranks: int) -> Result:
    """`tenfold train` under torchrun with gloo."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    command += ["tenfold", "train", str(directory), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def losses_of(directory: Path) -> list[float]:
    ledger = Ledger(directory / "ledger.sqlite", read_only=True)
    losses = [value for _, value in ledger.metric(1, "train/loss")]
    ledger.close()
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_learn_as_one_does(parallel: str, finished: Path, tmp_path: Path) -> None:
    directory = only_data(finished, tmp_path / parallel)
    if parallel == "ddp":
        torchrun(directory, 2)
    else:
        run_ranks(["train", str(directory), "--set", f"train.parallel={parallel}"])
    one, two = losses_of(finished), losses_of(directory)
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 2e-3


@pytest.mark.slow
def test_a_sharded_checkpoint_resumes_on_another_number_of_ranks(finished: Path, tmp_path: Path) -> None:
    directory = only_data(finished, tmp_path / "resharded")
    overrides = ("train.parallel=fsdp", "checkpoint.every=10", "checkpoint.keep_last=5")
    run_ranks(["train", str(directory), *(word for override in overrides for word in ("--set", override))])
    (directory / "train.json").unlink()
    for late in ("step-00000030", "step-00000040"):
        shutil.rmtree(directory / "checkpoints" / late)
    result = run_train(directory, overrides)
    assert result is not None
    assert abs(losses_of(directory)[-1] - losses_of(finished)[-1]) < 2e-3


def test_export_is_a_model_that_generates(finished: Path, tmp_path: Path) -> None:
    import transformers

    run_export(finished, tmp_path / "export", ())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "export")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    inputs = tokenizer("import", return_tensors="pt")
    generated = model.generate(inputs["input_ids"], max_new_tokens=8, do_sample=False)
    assert generated.shape[1] == inputs["input_ids"].shape[1] + 8
    assert tokenizer.decode(generated[0]).startswith("import")


def test_the_audit_can_be_asked_for(finished: Path) -> None:
    assert run_audit(finished, ())["ok"]


def test_my_own_text_needs_no_other_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tenfold init my --data ./texts && tenfold run my."""
    monkeypatch.chdir(tmp_path)
    new_campaign(tmp_path / "from")
    init_campaign(Path("my"), "quickstart", "from/texts")
    campaign = load_campaign(Path("my"))
    assert campaign.data.sources[0].kind == "files"
    assert not campaign.learners.count and not campaign.chaos.faults  # the quickstart's demonstration
    overrides = ["model.depth=1", "model.width=32", "model.context=32", "train.tokens=2048", "train.batch_tokens=256"]
    overrides += ["train.threads=1", "data.tokenizer.vocab_size=400", "ladder.sizes=0", "evaluate.stride=16"]
    result = run_campaign(Path("my"), overrides)
    assert set(json.loads(Path("my/report.json").read_text())["holdouts"]) == {"iid"}
    assert result["steps"] == 8


def test_the_report_opens_in_a_browser_offline(finished: Path, tmp_path: Path) -> None:
    browser, page, shot = open_browser(tmp_path / "profile"), finished / "report.html", tmp_path / "report.png"
    browser.screenshot(page, shot)
    assert shot.stat().st_size > 40_000  # an empty page is a tenth of that
    content = browser.content(page)
    assert "bits per byte" in content and "weights digest" in content


@pytest.mark.slow
def test_a_password_in_checkpoint_url_is_in_no_file_but_the_users_own(tmp_path: Path) -> None:
    campaign = built_campaign(tmp_path)
    url = f"memory://me:open-sesame@place{tmp_path}"
    given = (f"checkpoint.url={url}", "train.tokens=2560")
    run_campaign(campaign, given)
    report = json.loads((campaign / "report.json").read_text())
    assert report["config"]["checkpoint"]["url"] == f"memory://…@place{tmp_path}"
    assert {"report.html", "ledger.sqlite", "train.json"} <= {path.name for path in campaign.iterdir()}
    assert files_with(b"open-sesame", campaign) == []
    with pytest.raises(InputError, match=r"train.json: trained with --set checkpoint.url=memory://…@place.*; what is"):
        run_evaluate(campaign, ())
    assert run_evaluate(campaign, given[:1])["iid_bits_per_byte"] > 0
    toml = (campaign / "campaign.toml").read_text()
    (campaign / "campaign.toml").write_text(toml.replace("[checkpoint]", f'[checkpoint]\nurl = "{url}"'))
    assert run_evaluate(campaign, ())["iid_bits_per_byte"] > 0
    run_report(campaign, ())
    assert files_with(b"open-sesame", campaign) == ["campaign.toml"]


def files_with(words: bytes, folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and words in path.read_bytes()]


def test_memory_that_ran_out_for_the_corpus_is_no_matter_of_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("tenfold.campaign.data.build_corpus", build)
    with pytest.raises(TenfoldError, match=r"out of memory while the corpus was built; name fewer or smaller .data."):
        run_data(new_campaign(tmp_path), ())
