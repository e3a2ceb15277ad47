"""The page about the ledger says what the code does."""

from pathlib import Path

from tenfold.ledger import METRICS, EventKind, IncidentKind
from tenfold.ledger.contract import render_contract

PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render_contract(), "run `make docs`"


def test_it_lists_everything() -> None:
    page = render_contract()
    for name in (*EventKind, *IncidentKind, *(metric.name for metric in METRICS)):
        assert f"\n| `{name}` |" in page
