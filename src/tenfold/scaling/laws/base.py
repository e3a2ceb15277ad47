"""What every law is: a name, a formula, a fit under weights, and a forecast of log loss."""

from typing import Protocol

from tenfold.scaling.table import FloatArray, Points, RunTable


class Law(Protocol):
    """One form of scaling law. Coefficients are rows (R, p), so that R fits are evaluated at once."""

    @property
    def name(self) -> str:
        """Short name, for reports."""

    @property
    def formula(self) -> str:
        """The form in one line."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the p coefficients, in order."""

    def obstacle(self, runs: RunTable) -> str | None:
        """Why this law cannot be identified from these runs; None if it can."""

    def fit(self, runs: RunTable, weights: FloatArray, near: FloatArray | None = None) -> FloatArray:
        """Coefficients (R, p) of R fits, one for each row of `weights` (R, n); NaN where a fit is impossible.

        `near` (1, p) is a fit to similar rows to start from; without it a grid of starts is searched.
        """

    def log_loss(self, coefficients: FloatArray, points: Points) -> FloatArray:
        """Forecast of ln L, shape (R, m), from coefficients (R, p) at m points."""
