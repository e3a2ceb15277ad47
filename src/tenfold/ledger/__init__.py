"""The run's memory: what was run, measured, forecast and noticed. Front door: Ledger and its records."""

from tenfold.ledger.store import Event, Ledger, Prediction, Run, TriedChange

__all__ = ["Event", "Ledger", "Prediction", "Run", "TriedChange"]
