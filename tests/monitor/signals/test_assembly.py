"""A campaign trained with and without signals: the same weights, and every signal in its ledger."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.campaign import run_train
from tenfold.ledger import Ledger, metric_of
from tests.campaign.small import built_campaign, copy_of
from tests.warm import run_ranks

EVERY_STEP = {"data/fingerprint", "data/mismatch", "data/document_length", "data/repetition", "data/odd_share"}
READINGS = {"train/update_norm", "digest/weights", "digest/gradients", "numerics/non_finite"}
OF_BLOCKS = {"grad_norm", "update_norm", "update_ratio", "activation_rms", "attention_logit", "qk_entropy"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_campaign(tmp_path_factory.mktemp("built"))


def digest_of(campaign: Path) -> str:
    return str(json.loads((campaign / "train.json").read_text())["weights_digest"])


def signals_in(campaign: Path) -> dict[str, list[int]]:
    """Steps at which each metric was written."""
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        return {name: [step for step, _ in ledger.metric(1, name)] for name in ledger.metric_names(1)}


def test_a_watched_run_has_the_same_weights_and_all_its_signals(built: Path, tmp_path: Path) -> None:
    watched, alone = copy_of(built, tmp_path / "watched"), copy_of(built, tmp_path / "alone")
    run_train(watched, ["watch.every=4"])
    run_train(alone, ["watch.enabled=false"])
    assert digest_of(watched) == digest_of(alone)
    found, plain = signals_in(watched), signals_in(alone)
    steps = list(range(1, 41))
    assert all(found[name] == steps for name in EVERY_STEP)
    assert all(found[name] == steps[3::4] for name in READINGS)
    assert all(found[f"block/blocks.1/{figure}"] == steps[3::4] for figure in OF_BLOCKS)
    assert all(found[f"time/{part}"] == steps for part in ("forward", "backward", "optimizer", "watching"))
    assert {"tokens/frequent/loss", "process/memory", "disk/free", "block/embedding/grad_norm"} < found.keys()
    assert any(name.startswith("source/") for name in found)
    assert not any(name.startswith(("block/", "data/", "time/", "digest/")) for name in plain)
    assert all(metric_of(name) for name in found)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_are_watched_and_end_in_the_weights_of_two_that_are_not(
    parallel: str, built: Path, tmp_path: Path
) -> None:
    found = {}
    for enabled in ("true", "false"):
        campaign = copy_of(built, tmp_path / enabled)
        settings = [f"watch.enabled={enabled}", "watch.every=10", f"train.parallel={parallel}", "train.tokens=5120"]
        program = ["train", str(campaign), *(f"--set={setting}" for setting in settings)]
        run_ranks(program)
        found[enabled] = digest_of(campaign), signals_in(campaign)
    assert found["true"][0] == found["false"][0]
    signals = found["true"][1]
    assert signals["block/blocks.0/update_norm"] == [10, 20]
    assert ("block/blocks.0/activation_rms" in signals) == (parallel == "ddp")


def test_a_bit_flipped_on_one_of_two_replicas_is_an_incident_at_the_next_checkpoint(
    built: Path, tmp_path: Path
) -> None:
    campaign = copy_of(built, tmp_path / "flipped")
    run_ranks([str(Path(__file__).parent / "replica_ranks.py"), str(campaign)])
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        (incident,) = ledger.incidents()
    assert incident.kind == "replicas-disagree" and incident.state == "updated"
    assert incident.data["signal"] == "digest/weights" and incident.data["step"] == 20
