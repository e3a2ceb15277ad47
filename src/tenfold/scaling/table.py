"""The run table: what was trained and what loss it reached, read from CSV.

N is the number of parameters, D the tokens trained on (repeats counted), C the compute in FLOP, U the distinct tokens
among D. How N is counted (with or without embeddings) is the table's choice: a law speaks about N as counted in the
table it was fitted on, and forecasts must count the same way.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from tenfold.core import InputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

LN10 = math.log(10.0)
FLOPS_PER_TOKEN_AND_PARAMETER = 6.0  # forward 2, backward 4: Kaplan et al., arXiv 2001.08361, section 2.1
REQUIRED = ("N", "D", "loss")
OPTIONAL = ("C", "seed", "run", "epochs", "unique")
UNIQUE_SLACK = 1.001  # written with few digits, unique tokens may exceed D by rounding
LARGEST = 1e60  # numbers beyond it (or below its inverse) overflow once multiplied; no run has such a count or loss
MOST_ROWS = 100_000
DIGITS = 10  # of logarithms in a table's own units: rounding of other units ends below them


@dataclass(frozen=True)
class Points:
    """Points that a law is evaluated at: natural logarithms of N, D, C and U, each of shape (n,)."""

    n: FloatArray
    d: FloatArray
    c: FloatArray
    u: FloatArray

    @classmethod
    def of(
        cls,
        parameters: npt.ArrayLike,
        tokens: npt.ArrayLike,
        compute: npt.ArrayLike | None = None,
        unique: npt.ArrayLike | None = None,
    ) -> Self:
        """Points from plain numbers: `compute` defaults to 6ND FLOP, `unique` to D (no token seen twice)."""
        n = np.log(np.atleast_1d(np.asarray(parameters, dtype=np.float64)))
        d = np.log(np.atleast_1d(np.asarray(tokens, dtype=np.float64)))
        c = n + d + math.log(FLOPS_PER_TOKEN_AND_PARAMETER) if compute is None else _log(compute, n)
        return cls(n, d, c, d if unique is None else np.minimum(_log(unique, n), d))

    def __len__(self) -> int:
        return len(self.n)

    def take(self, index: BoolArray | IntArray) -> "Points":
        """The points at `index`."""
        return Points(*(getattr(self, field.name)[index] for field in fields(self)))

    def moved(self, n: float, d: float, c: float) -> "Points":
        """The same points with these numbers taken off ln N, off ln D and ln U, and off ln C."""
        shifts = (n, d, c, d)
        return Points(
            *(np.round(getattr(self, f.name) - by, DIGITS) for f, by in zip(fields(self), shifts, strict=True))
        )

    @property
    def repeats(self) -> bool:
        """Whether any point sees a token more than once."""
        return bool((self.d - self.u > math.log(UNIQUE_SLACK)).any())


def _log(values: npt.ArrayLike, like: FloatArray) -> FloatArray:
    return np.log(np.broadcast_to(np.asarray(values, dtype=np.float64), like.shape))


@dataclass(frozen=True)
class Units:
    """Logarithms of the amounts that a table's own units are: geometric means of its N, D, C and loss."""

    n: float
    d: float
    c: float
    loss: float

    @property
    def point(self) -> Points:
        """The units as one point."""
        return Points(*(np.array([value]) for value in (self.n, self.d, self.c, self.d)))


@dataclass(frozen=True)
class RunTable:
    """Finished runs: where they stood, the natural log of the loss (n,), and which rows belong to one run (n,).

    `line` (n,) is where each row stands in its file, for messages; without a file its place among those given.
    """

    points: Points
    log_loss: FloatArray
    run: IntArray
    line: IntArray
    source: str = "table"
    copies: tuple[int, ...] = ()
    """Lines of the file that repeat another word for word and are not counted."""

    @classmethod
    def of(
        cls,
        points: Points,
        loss: npt.ArrayLike,
        run: Sequence[object] | None = None,
        source: str = "table",
        line: Sequence[int] | None = None,
    ) -> Self:
        """A table from plain losses. Rows that share a `run` label are resampled together; default: all apart."""
        labels = list(range(len(points))) if run is None else list(run)
        order = {label: position for position, label in enumerate(dict.fromkeys(labels))}
        codes = np.array([order[label] for label in labels], dtype=np.int64)
        places = np.arange(1, len(points) + 1) if line is None else np.array(line, dtype=np.int64)
        return cls(points, np.log(np.asarray(loss, dtype=np.float64)), codes, places, source).sorted()

    def __len__(self) -> int:
        return len(self.log_loss)

    @property
    def loss(self) -> FloatArray:
        """Loss in nats per token (or the table's own unit), shape (n,)."""
        return np.exp(self.log_loss)

    def take(self, index: BoolArray | IntArray) -> Self:
        """The rows at `index`."""
        columns = {name: getattr(self, name)[index] for name in ("log_loss", "run", "line")}
        return replace(self, points=self.points.take(index), **columns)

    def sorted(self) -> Self:
        """Rows in order of compute, so that nothing later depends on the order in the file."""
        points, units = self.points, self.units
        own = points.moved(units.n, units.d, units.c)
        order = np.lexsort((np.round(self.log_loss - units.loss, DIGITS), own.u, own.d, own.n, own.c))
        ordered = self.take(order)
        codes = ordered.run.tolist()
        first = {code: position for position, code in enumerate(dict.fromkeys(codes))}
        return replace(ordered, run=np.array([first[code] for code in codes], dtype=np.int64))

    @property
    def units(self) -> Units:
        """The table's own units, so that nothing fitted in them depends on the units of the file."""
        points = self.points
        means = (float(np.sort(values).mean()) for values in (points.n, points.d, points.c, self.log_loss))
        return Units(*means)

    def in_units(self, units: Units) -> "RunTable":
        """The same runs counted in `units`."""
        points = self.points.moved(units.n, units.d, units.c)
        return replace(self, points=points, log_loss=np.round(self.log_loss - units.loss, DIGITS))

    @property
    def flops_factor(self) -> float:
        """Median of C / (ND): 6 unless the table counts its FLOP otherwise."""
        return float(np.exp(np.median(self.points.c - self.points.n - self.points.d)))


def read_runs(path: Path) -> RunTable:
    """Read a CSV with the columns N, D, loss and, if there, C, seed, run, and epochs or unique (distinct tokens).

    Other columns are ignored; a row that is another's copy in all columns counts once. Raises InputError that names
    file, row (line of the file), column and what is allowed.
    """
    rows, copies = _without_copies(_read_rows(path))
    columns = {name: _numbers(path, rows, name) for name in (*REQUIRED, "C", "epochs", "unique") if name in rows[0][1]}
    _check_unique(path, rows, columns)
    unique = columns.get("unique")
    if unique is None and "epochs" in columns:
        unique = columns["D"] / np.maximum(columns["epochs"], 1.0)
    points = Points.of(columns["N"], columns["D"], columns.get("C"), unique)
    table = RunTable.of(points, columns["loss"], _run_labels(rows), str(path), [line for line, _ in rows])
    return replace(table, copies=copies)


Row = tuple[int, Mapping[str, str]]


def _read_rows(path: Path) -> list[Row]:
    """Line number and cells of each row; at least one row, every required column there."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="", strict=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            _check_header(path, header)
            reader.fieldnames = header
            rows: list[Row] = [(reader.line_num, row) for row in islice(reader, MOST_ROWS + 1)]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; --table takes a CSV with the columns N, D, loss") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); --table takes a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV in UTF-8 ({error})") from error
    if not rows:
        raise InputError(f"{path}: no rows below the header; each row is one run")
    if len(rows) > MOST_ROWS:
        raise InputError(f"{path}: more than {MOST_ROWS:,} rows; each row is one finished run, not a step of one")
    return rows


def _without_copies(rows: list[Row]) -> tuple[list[Row], tuple[int, ...]]:
    """Rows that differ in some column, and the lines of those that do not: nobody trains a run twice to all digits."""
    first = {tuple(map(str, row.values())): line for line, row in reversed(rows)}
    kept = [(line, row) for line, row in rows if first[tuple(map(str, row.values()))] == line]
    return kept, tuple(sorted({line for line, _ in rows} - {line for line, _ in kept}))


def _check_header(path: Path, header: list[str]) -> None:
    for name in REQUIRED:
        if name not in header:
            there = ", ".join(header) or "none (empty file)"
            raise InputError(f"{path}: no column '{name}'; columns there are: {there}")
    for name in (*REQUIRED, *OPTIONAL):
        if header.count(name) > 1:
            raise InputError(f"{path}: column '{name}' is there {header.count(name)} times; keep one")


def _numbers(path: Path, rows: list[Row], name: str) -> FloatArray:
    """Column `name` as positive finite numbers."""
    return np.array([_number(path, line, name, row[name]) for line, row in rows], dtype=np.float64)


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{path}: row {line}: {name} = '{text.strip()}': must be a finite number above 0")
    if not 1 / LARGEST <= value <= LARGEST:
        raise InputError(f"{path}: row {line}: {name} = '{text.strip()}': must lie in {1 / LARGEST:g} … {LARGEST:g}")
    return value


def _check_unique(path: Path, rows: list[Row], columns: Mapping[str, FloatArray]) -> None:
    if "unique" not in columns:
        return
    excess = columns["unique"] > columns["D"] * UNIQUE_SLACK
    if excess.any():
        line, row = rows[int(np.argmax(excess))]
        tokens, unique = row["D"].strip(), row["unique"].strip()
        raise InputError(f"{path}: row {line}: unique = '{unique}': must not exceed D = {tokens}")


def _run_labels(rows: list[Row]) -> list[str] | None:
    """Rows of one `run` (several D points off one trunk) belong together; without the column each stands alone."""
    if "run" not in rows[0][1]:
        return None
    return [_run_label(line, row) for line, row in rows]


def _run_label(line: int, row: Mapping[str, str]) -> str:
    """The same name under another seed is another run; a row without a name is one of its own."""
    name = row["run"].strip()
    return f"run {name} seed {row.get('seed', '').strip()}" if name else f"row {line}"
