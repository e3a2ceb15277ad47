"""Changes in the ledger: kept whole, one for each name and recipe."""

from dataclasses import replace
from pathlib import Path

from tenfold.ledger import Ledger, TriedChange

GELU = TriedChange(
    name="gelu",
    recipe="ab" * 32,
    description="plain GELU",
    set={"model.mlp": "gelu", "train.optimizer.beta2": 0.98},
    stack=["no-qk-norm"],
    assessment={"verdict": "adopt", "noise": None},
    stack_check={"held": True},
    decided_at=1.0,
)


def test_a_change_comes_back_as_it_was(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.sqlite").record_change(GELU)
    alone = replace(GELU, name="alone", stack=[], stack_check=None)
    Ledger(tmp_path / "ledger.sqlite").record_change(alone)
    assert Ledger(tmp_path / "ledger.sqlite", read_only=True).changes() == [GELU, alone]


def test_a_second_decision_on_one_recipe_replaces_the_first_and_comes_last(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    elsewhere = replace(GELU, recipe="cd" * 32)
    again = replace(GELU, assessment={"verdict": "reject"}, decided_at=2.0)
    for change in (GELU, elsewhere, again):
        ledger.record_change(change)
    assert ledger.changes() == [elsewhere, again]
