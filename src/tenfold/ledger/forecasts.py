"""Forecasts: registered before what they are of is measured, never rewritten, settled once.

A registry keeps the forecasts that one command makes about targets, each named by the digest of its recipe: under that
name, with the target's identity in the first forecast's basis and a digest over all that was said.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tenfold.core import TenfoldError, digest_of
from tenfold.ledger.records import Prediction
from tenfold.ledger.store import Ledger

SHOWN = 12  # digits of the recipe's digest in a quantity's name
NOT_SAID = ("recipe", "digest")  # keys of the basis that the digest does not cover


@dataclass(frozen=True)
class ForecastRegistry:
    """The forecasts that one command makes. `name_key` and `identity_key` are the keys of their bases on disk."""

    ledger: Ledger
    name_key: str
    identity_key: str

    def register(self, recipe: str, identity: Mapping[str, Any], quantities: Sequence[Prediction]) -> None:
        """Write all that is forecast about a target, or nothing where a part of it has been forecast already.

        `recipe` is the digest that names the target, `identity` what tells whether another target is the same.
        Raises TenfoldError then: a forecast is never rewritten.
        """
        first, *rest = [replace(q, basis=q.basis | {self.name_key: recipe}) for q in quantities]
        said = [replace(first, basis=first.basis | {self.identity_key: dict(identity)}), *rest]
        digest = {"digest": digest_of_forecast(said)}
        self.ledger.predict_together(
            [replace(q, quantity=_full_name(recipe, q.quantity), basis=q.basis | digest) for q in said]
        )

    def registered(self, is_same: Callable[[Mapping[str, Any]], bool]) -> list[Prediction]:
        """What has been forecast about the target whose identity `is_same` says yes to; the first comes first."""
        every = [p for p in self.ledger.predictions() if self.name_key in p.basis]
        firsts = (p.basis for p in every if self.identity_key in p.basis)
        recipe = next((basis[self.name_key] for basis in firsts if is_same(basis[self.identity_key])), None)
        mine = [p for p in every if p.basis[self.name_key] == recipe]
        return [replace(p, quantity=p.quantity.split(" ", 1)[1]) for p in mine]

    def settle(self, is_same: Callable[[Mapping[str, Any]], bool], outcomes: Mapping[str, float]) -> list[Prediction]:
        """Write outcomes beside their forecasts, those that are not settled yet. Returns what is settled.

        Raises TenfoldError when the forecast is not what was registered.
        """
        found = self.registered(is_same)
        if found and digest_of_forecast(found) != found[0].basis["digest"]:
            raise TenfoldError(
                f"{self.ledger.path}: the registered forecast was changed afterwards; it cannot be settled"
            )
        for prediction in found:
            if prediction.outcome is None and prediction.quantity in outcomes:
                name = _full_name(prediction.basis[self.name_key], prediction.quantity)
                self.ledger.settle(name, outcomes[prediction.quantity])
        return [prediction for prediction in self.registered(is_same) if prediction.outcome is not None]


def _full_name(recipe: str, quantity: str) -> str:
    """The ledger's quantity: every target has its own."""
    return f"{recipe[:SHOWN]} {quantity}"


def digest_of_forecast(quantities: Sequence[Prediction]) -> str:
    """sha256 over quantities, units, medians, intervals and what they rest on."""
    return digest_of([[q.quantity, q.unit, q.median, _edges(q), _basis(q)] for q in quantities])


def _edges(quantity: Prediction) -> list[tuple[str, list[float]]]:
    return sorted((level, list(edges)) for level, edges in quantity.intervals.items())


def _basis(quantity: Prediction) -> dict[str, Any]:
    return {key: value for key, value in quantity.basis.items() if key not in NOT_SAID}
