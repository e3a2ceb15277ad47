"""`tenfold derisk` from file to verdict: real small runs without and with a change, judged, kept, never made twice."""

import json
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenfold.campaign import run_data, run_derisk, run_ladder
from tenfold.cli import main
from tenfold.config import load_campaign
from tenfold.config.change import load_change
from tenfold.core.errors import InputError
from tenfold.experiments.changes import apply_change, assessment_of, changes_of, check_stack, record_of, same_recipe
from tenfold.experiments.changes_plan import DeriskPlan, DeriskQuestion, plan_derisk
from tenfold.ledger import Ledger, TriedChange
from tenfold.pages.changes import changes_page
from tests.campaign.small import TOML, copy_of, new_campaign
from tests.experiments.small import workspace_at

TARGET = {
    "width = 32": "width = 64",
    "base_width = 64": "base_width = 32",
    "tokens = 10240": "tokens = 53760",
    "batch_tokens = 256": "batch_tokens = 512\nlog_every = 1000",
    "max_bytes = 20000": "max_bytes = 4000",
}
LADDER = """
[train.optimizer]
kind = "adamw"
[ladder]
sizes = 3
budgets = 4
smallest = 0.02
largest = 0.2
workers = 1
transfer = false
"""
SIZES = ("w16-d2", "w32-d2", "w48-d2")
CHANGES = Path(__file__).parents[2] / "docs" / "changes"
TOO_HOT = '"train.optimizer.learning_rate" = 1e6'


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with its corpus built, and a ladder below its target."""
    campaign, text = new_campaign(tmp_path_factory.mktemp("corpus")), TOML.partition("[ladder]")[0]
    for old, new in TARGET.items():
        assert old in text
        text = text.replace(old, new)
    (campaign / "campaign.toml").write_text(text + LADDER)
    run_data(campaign, ())
    return campaign


@pytest.fixture(scope="module")
def tried(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with one change tried."""
    campaign = copy_of(corpus, tmp_path_factory.mktemp("tried") / "my")
    run_derisk(CHANGES / "no-qk-norm.toml", campaign, (), seeds=1, sizes=None)
    return campaign


def tenfold(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """One command line; the exit status."""
    monkeypatch.setattr("sys.argv", ["tenfold", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def written(folder: Path, name: str, keys: str, stack: Sequence[str] = ()) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(f"stack = {json.dumps(list(stack))}\n[set]\n{keys}\n")
    return path


def kept(campaign: Path) -> list[TriedChange]:
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        return ledger.changes()


def shown(campaign: Path) -> dict[str, Any]:
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        return changes_of(ledger)


def finished(campaign: Path) -> dict[str, int]:
    """Every finished rung and when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted((campaign / "ladder").rglob("*-*/*.json"))}


def planned(campaign: Path, change: Path, seeds: int = 1, overrides: Sequence[str] = ()) -> DeriskPlan:
    workspace = workspace_at(campaign, overrides)
    changed = apply_change(workspace.campaign, load_change(change), {})
    return plan_derisk(workspace, DeriskQuestion(workspace.campaign, changed, seeds, None, str(change)))


def test_a_change_is_judged_rung_by_rung_and_kept_for_the_report(tried: Path) -> None:
    [change] = shown(tried)["changes"]
    assert (change["name"], change["set"], change["stack"]) == ("no-qk-norm", {"model.qk_norm": False}, [])
    found = change["assessment"]
    assert [scale["trunk"] for scale in found["scales"]].count("w32-d2") == 3
    assert {scale["trunk"] for scale in found["scales"]} == set(SIZES)
    assert 0.2 < found["pooled"]["value"] < 5
    assert record_of(assessment_of(found)) == found
    page = changes_page(shown(tried))
    assert page is not None and [row.verdict for row in page.rows] == [found["verdict"]]


def test_again_nothing_is_trained_and_the_same_is_said(
    tried: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, [first] = finished(tried), kept(tried)
    assert len(before) == 14
    assert tenfold(monkeypatch, "derisk", CHANGES / "no-qk-norm.toml", tried, "--seeds", 1) == 0
    [second] = kept(tried)
    assert finished(tried) == before
    assert replace(second, decided_at=first.decided_at) == first
    said = capsys.readouterr().out
    assert f"verdict: {first.assessment['verdict']}: " in said
    assert [f"  {scale['rung']}" in said for scale in first.assessment["scales"]] == [True] * 7


def test_a_change_that_diverges_is_rejected_and_not_trained_again(
    tried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign, change = copy_of(tried, tmp_path / "my"), written(tmp_path, "hot", TOO_HOT)
    assert tenfold(monkeypatch, "derisk", change, campaign, "--seeds", 1) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"verdict: reject: 3 of 3 trunks .*diverged; w16-d2, seed 1: step \d+: loss .*: not finite", said[-1]
    )
    before = finished(campaign)
    assert tenfold(monkeypatch, "derisk", change, campaign, "--seeds", 1, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["assessment"]["verdict"], record["assessment"]["noise"]) == ("reject", None)
    assert finished(campaign) == before
    assert [change["name"] for change in shown(campaign)["changes"]] == ["no-qk-norm", "hot"]
    assert changes_page(shown(campaign)) is not None


def test_without_a_change_to_blame_a_divergence_is_said_and_never_trained_again(corpus: Path, tmp_path: Path) -> None:
    campaign = copy_of(corpus, tmp_path / "my")
    when = []
    for _ in range(2):
        with pytest.raises(InputError, match=r"^ladder: w16-d2, seed 1: step \d+: loss .* not finite; lower train.opt"):
            run_ladder(campaign, ["train.optimizer.learning_rate=1e6"], join=True)
        when.append(sorted(path.stat().st_mtime_ns for path in (campaign / "ladder").glob("*/diverged.json")))
    assert len(when[0]) == 3 and when[1] == when[0]


BAD = {
    "unknown key": ('"model.qk_norms" = false', [], [], r"unknown key 'model.qk_norms'; did you mean"),
    "unknown stack": ("model.qk_norm = false", ["gelu"], [], r"stack: 'gelu' was never tried on this campaign"),
    "unknown size": ("model.qk_norm = false", [], ["--sizes", "w64-d2"], r"no size 'w64-d2' .* w16-d2, w32-d2, w48-d2"),
    "one size": (
        "model.qk_norm = false",
        [],
        ["--sizes", "w32-d2"],
        r"--sizes: 1 sizes; the reference law needs 3 or more",
    ),
    "two sizes": ("model.qk_norm = false", [], ["--sizes", "w16-d2,w48-d2"], r"--sizes: 2 sizes; .* needs 3 or more"),
    "no seeds": ("model.qk_norm = false", [], ["--seeds", "0"], r"--seeds 0: give 1 or more"),
    "the ladder's": ("train.schedule.decay = 0.5", [], [], r"train.schedule.decay: the ladder sets it for every rung"),
    "seeds overlap": ("seed = 2", [], [], r"the very runs without it; .* far enough from 1, 2"),
    "no effect": ("seed = 1", [], [], r"the campaign has these values already"),
    "context": ("model.context = 64", [], [], r"at the ladder's w\d\d-d2: .*must be a multiple of model.context 64"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_tried_is_one_line_before_anything_is_trained(
    case: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, stack, words, line = BAD[case]
    assert tenfold(monkeypatch, "derisk", written(tmp_path, "mine", keys, stack), corpus, *words) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and re.search(f"^error: .*{line}", said[0]), said
    assert not finished(corpus)


@pytest.mark.parametrize("file", sorted(CHANGES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_change_has_a_pair_for_every_trunk_and_seed(file: Path, corpus: Path) -> None:
    plan = planned(corpus, file, 2, ["train.optimizer.kind=muon"])
    assert [(pair.seed, pair.reference.trunk.name) for pair in plan.pairs] == [(s, w) for s in (1, 2) for w in SIZES]
    shift = 100 if file.stem == "null" else 0
    for pair in plan.pairs:
        assert pair.changed.campaign.seed == pair.seed + shift
        assert pair.changed.trunk.rungs == pair.reference.trunk.rungs
        assert pair.changed.folder != pair.reference.folder
        assert pair.changed.trunk.parameters == pytest.approx(pair.reference.trunk.parameters, rel=0.06)


def test_the_gains_of_a_stack_are_multiplied(tried: Path, tmp_path: Path) -> None:
    [first] = kept(tried)
    other = replace(first, name="other", set={"model.mlp": "gelu"})
    known = same_recipe([first, other, replace(first, recipe="another", name="elsewhere")], first.recipe)
    measured = assessment_of(first.assessment)
    worth = measured.at_target.value

    both = load_change(written(tmp_path, "both", "", ["no-qk-norm", "other"]))
    check = check_stack(both, measured, known)
    assert check is not None
    assert check["predicted"]["value"] == pytest.approx(worth**2)
    assert check["measured"] == measured.at_target.record()
    assert check["held"] and "holds 1" in check["text"]

    on_top = load_change(written(tmp_path, "gelu-on-top", '"model.mlp" = "gelu"', ["no-qk-norm"]))
    assert check_stack(on_top, measured, known) == check
    assert check_stack(on_top, measured, {"no-qk-norm": first}) is None


def test_a_stack_sets_what_its_changes_set_and_names_only_those_tried_alone(tried: Path, tmp_path: Path) -> None:
    [first] = kept(tried)
    change = load_change(written(tmp_path, "gelu-on-top", '"model.mlp" = "gelu"', ["no-qk-norm"]))
    model = apply_change(load_campaign(tried), change, {"no-qk-norm": first}).model
    assert (model.qk_norm, model.mlp) == (False, "gelu")
    with pytest.raises(InputError, match="'no-qk-norm' was tried on top of other, not alone"):
        apply_change(load_campaign(tried), change, {"no-qk-norm": replace(first, stack=["other"])})
