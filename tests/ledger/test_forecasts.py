"""Forecasts are registered once and whole, found again by their target, settled once, and tampering shows."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenfold.core.errors import TenfoldError
from tenfold.ledger import ForecastRegistry, Ledger, Prediction
from tenfold.ledger.forecasts import digest_of_forecast

RECIPE, OTHER = "a" * 64, "b" * 64
LOSS = Prediction("loss", "nats per token", 2.5, {"0.8": (2.4, 2.6)}, {"law": "x"})
TIME = Prediction("time", "seconds", 60.0, {"0.8": (50.0, 70.0)}, {})


@pytest.fixture
def forecasts(tmp_path: Path) -> ForecastRegistry:
    return ForecastRegistry(Ledger(tmp_path / "ledger.sqlite"), "recipe", "identity")


def of_seed(seed: int) -> Any:
    def is_same(identity: Mapping[str, Any]) -> bool:
        return bool(identity["seed"] == seed)

    return is_same


def test_a_forecast_is_found_by_its_target_and_settled_once(forecasts: ForecastRegistry) -> None:
    forecasts.register(RECIPE, {"seed": 1}, [LOSS, TIME])
    forecasts.register(OTHER, {"seed": 2}, [LOSS])
    found = forecasts.registered(of_seed(1))
    assert [(p.quantity, p.median, p.intervals["0.8"]) for p in found] == [
        ("loss", 2.5, [2.4, 2.6]),
        ("time", 60.0, [50.0, 70.0]),
    ]
    assert forecasts.registered(of_seed(3)) == []
    assert [p.quantity for p in forecasts.settle(of_seed(1), {"loss": 2.45, "unknown": 1.0})] == ["loss"]
    (settled,) = forecasts.settle(of_seed(1), {"loss": 9.0})
    assert settled.outcome == 2.45  # the first outcome stays
    assert forecasts.registered(of_seed(2))[0].outcome is None


def test_it_is_never_rewritten_not_even_in_part(forecasts: ForecastRegistry) -> None:
    forecasts.register(RECIPE, {"seed": 1}, [LOSS])
    with pytest.raises(TenfoldError, match="loss has been forecast already; a forecast is never rewritten"):
        forecasts.register(RECIPE, {"seed": 1}, [TIME, replace(LOSS, median=1.0)])
    assert [p.quantity for p in forecasts.registered(of_seed(1))] == ["loss"]


def test_registries_do_not_see_each_other(forecasts: ForecastRegistry) -> None:
    plans = ForecastRegistry(forecasts.ledger, "planned", "planned_identity")
    plans.register(RECIPE, {"seed": 1}, [TIME])
    assert forecasts.registered(of_seed(1)) == []
    forecasts.register(RECIPE, {"seed": 1}, [LOSS])
    assert [p.quantity for p in plans.registered(of_seed(1))] == ["time"]


@pytest.mark.parametrize("change", ["median = 9.9", "basis = json_set(basis, '$.law', 'y')", "intervals = '{}'"])
def test_one_that_was_changed_in_the_file_is_not_settled(forecasts: ForecastRegistry, change: str) -> None:
    forecasts.register(RECIPE, {"seed": 1}, [LOSS])
    with forecasts.ledger._write() as db:
        db.execute(f"UPDATE predictions SET {change}")
    with pytest.raises(TenfoldError, match="the registered forecast was changed afterwards; it cannot be settled"):
        forecasts.settle(of_seed(1), {"loss": 2.5})


def test_the_digest_is_that_of_rows_written_before(forecasts: ForecastRegistry) -> None:
    """Of a forecast the recipe in the basis is not part of what is said; of a plan it is."""
    basis = {"law": "x", "identity": {"seed": 1}, "recipe": RECIPE}
    old = replace(LOSS, basis=basis)
    assert digest_of_forecast([old]) == digest_of_forecast([replace(old, basis=basis | {"recipe": OTHER})])
    assert digest_of_forecast([old]) != digest_of_forecast([replace(old, basis=basis | {"planned": RECIPE})])
    forecasts.register(RECIPE, {"seed": 1}, [LOSS])
    with forecasts.ledger._write() as db:
        ((stored,),) = db.execute("SELECT basis FROM predictions").fetchall()
    assert json.loads(stored) == basis | {"digest": digest_of_forecast([old])}
