"""One metric of a run in memory: read once, then only what was added; told apart where a resumed run rewrote it."""

from collections.abc import Sequence

import numpy as np

from tenfold.monitor.page.decimate import Steps, Values

Rows = tuple[Sequence[int], Sequence[float | None]]
"""Steps and values as the ledger gives them; None is NaN."""


class LiveCurve:
    """Steps and values in arrays that have room to grow."""

    def __init__(self) -> None:
        self._steps = np.empty(64, dtype=np.int64)
        self._values = np.empty(64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def steps(self) -> Steps:
        """All steps, rising."""
        return self._steps[: self._count]

    @property
    def values(self) -> Values:
        """The value at each of `steps`."""
        return self._values[: self._count]

    @property
    def last(self) -> int:
        """The last step; -1 before there is one."""
        return int(self._steps[self._count - 1]) if self._count else -1

    def append(self, rows: Rows) -> None:
        """Add rows whose steps all lie beyond the last one."""
        steps, values = as_arrays(rows)
        self._make_room(self._count + len(steps))
        self._steps[self._count : self._count + len(steps)] = steps
        self._values[self._count : self._count + len(steps)] = values
        self._count += len(steps)

    def replace(self, after: int, rows: Rows) -> int | None:
        """Take `rows` for everything beyond step `after`. Returns the first step that changed, None where none did."""
        keep = int(np.searchsorted(self.steps, after, side="right"))
        old_steps, old_values = self.steps[keep:].copy(), self.values[keep:].copy()
        self._count = keep
        self.append(rows)
        return _first_difference(old_steps, old_values, self.steps[keep:], self.values[keep:])

    def _make_room(self, count: int) -> None:
        if count > len(self._steps):
            size = max(count, 2 * len(self._steps))
            self._steps, self._values = np.resize(self._steps, size), np.resize(self._values, size)


def as_arrays(rows: Rows) -> tuple[Steps, Values]:
    """Rows of the ledger as arrays."""
    return np.array(rows[0], dtype=np.int64), np.array(rows[1], dtype=np.float64)


def _first_difference(old_steps: Steps, old: Values, new_steps: Steps, new: Values) -> int | None:
    both = min(len(old_steps), len(new_steps))
    same = (old_steps[:both] == new_steps[:both]) & (
        (old[:both] == new[:both]) | (np.isnan(old[:both]) & np.isnan(new[:both]))
    )
    if not same.all():
        where = int(np.argmin(same))
        return int(min(old_steps[where], new_steps[where]))
    longer = old_steps if len(old_steps) > both else new_steps
    return int(longer[both]) if len(longer) > both else None
