"""The planner against runs that were measured."""

from tenfold.planner.evaluate.answer import Answer, answer, forecast_seconds
from tenfold.planner.evaluate.rows import HELD_OUT, Evaluation, HeldOut, evaluate_rows
from tenfold.planner.evaluate.summary import Errors, FamilySummary, errors, table

__all__ = [
    "HELD_OUT",
    "Answer",
    "Errors",
    "Evaluation",
    "FamilySummary",
    "HeldOut",
    "answer",
    "errors",
    "evaluate_rows",
    "forecast_seconds",
    "table",
]
