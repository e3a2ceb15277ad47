"""A set of 64-bit hashes that answers for whole arrays at once."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
FILTER_BITS_LIMIT = 26
FILTER_SLOTS_EACH = 16
Array = TypeVar("Array", NDArray[np.uint64], NDArray[np.int64])


class HashSet:
    """Sorted hashes behind a filter of one byte a slot: most hashes of a training text are in no holdout, and a look
    into a small table tells that faster than a binary search in a large one."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = sorted_unique(hashes)
        slots = FILTER_SLOTS_EACH * max(self.hashes.size, 1)
        self._shift = np.uint64(64 - min(FILTER_BITS_LIMIT, max(10, slots.bit_length())))
        self._filter = np.zeros(1 << (64 - int(self._shift)), dtype=bool)
        self._filter[self._slots(self.hashes)] = True

    def __len__(self) -> int:
        return int(self.hashes.size)

    def _slots(self, hashes: Hashes) -> Numbers:
        return (hashes >> self._shift).astype(np.int64)

    def find(self, hashes: Hashes) -> tuple[Numbers, Numbers]:
        """(where in `hashes`, which member) of every hash that is in the set."""
        at = np.flatnonzero(self._filter[self._slots(hashes)])
        candidates = hashes[at]
        which = np.minimum(np.searchsorted(self.hashes, candidates), max(len(self) - 1, 0))
        found = self.hashes[which] == candidates if len(self) else np.zeros(at.size, dtype=bool)
        return at[found], which[found]


def sorted_unique(values: Array) -> Array:
    """The different values, sorted; several times as fast as numpy.unique, which hashes."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if ordered.size else ordered
