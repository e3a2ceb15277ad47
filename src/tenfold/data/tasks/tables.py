"""What tasks hand on: rows of bytes, and runs of numbers sorted by key that a later task merges range by range."""

import io
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenfold.data.tasks.store import WorkFiles

Integers = NDArray[np.int64]
Keys = NDArray[np.uint64]
KEYS = 1 << 64


def write_rows(store: WorkFiles, name: str, rows: Sequence[bytes]) -> None:
    """Rows of bytes, one after the other, and where each ends."""
    store.write(f"{name}.rows", b"".join(rows))
    write_array(store, f"{name}.ends.npy", np.cumsum([0, *map(len, rows)], dtype=np.int64))


class Rows:
    """Rows that `write_rows` wrote; read one by one, or all in order."""

    def __init__(self, store: WorkFiles, name: str) -> None:
        self._store, self._file = store, f"{name}.rows"
        self._ends: Integers = read_array(store, f"{name}.ends.npy")

    def __len__(self) -> int:
        return self._ends.size - 1

    @property
    def sizes(self) -> Integers:
        """Bytes of each row."""
        return np.diff(self._ends)

    def __getitem__(self, number: int) -> bytes:
        start, end = int(self._ends[number]), int(self._ends[number + 1])
        return self._store.read_range(self._file, start, end - start)

    def __iter__(self) -> Iterator[bytes]:
        content = memoryview(self._store.read(self._file))
        return (bytes(content[start:end]) for start, end in pairwise(self._ends.tolist()))


def write_array(store: WorkFiles, name: str, values: NDArray[Any]) -> None:
    """An array as .npy."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    store.write(name, buffer.getbuffer())


def read_array(store: WorkFiles, name: str) -> NDArray[Any]:
    """An array that `write_array` wrote."""
    values: NDArray[Any] = np.load(io.BytesIO(store.read(name)), allow_pickle=False)
    return values


def key_bounds(buckets: int, size: int = KEYS) -> Keys:
    """The least key of each bucket but the first, for keys 0 … size − 1 cut into equal ranges, [buckets − 1]."""
    return np.asarray([size * number // buckets for number in range(1, buckets)], dtype=np.uint64)


def write_run(store: WorkFiles, name: str, rows: Keys, bounds: Keys) -> None:
    """Rows of 64-bit numbers [rows, columns], sorted by their first, equal ones in the order given.

    Before them stands where each bucket begins, so that a task of one bucket reads its own rows alone.
    """
    ordered = rows[np.argsort(rows[:, 0], kind="stable")]
    places = np.searchsorted(ordered[:, 0], bounds, side="left")
    starts = np.asarray([0, *places.tolist(), len(ordered)], dtype=np.uint64)
    store.write(name, starts.tobytes() + np.ascontiguousarray(ordered, dtype=np.uint64).tobytes())


def read_bucket(
    store: WorkFiles, names: Sequence[str], bucket: int, buckets: int, columns: int, firsts: Sequence[int] = ()
) -> Keys:
    """Rows of one bucket out of several runs, sorted by key; equal ones in the order of the runs.

    `firsts`, where given, are added to the last column of each run's rows: it counts from there on.
    """
    header, width = 8 * (buckets + 1), 8 * columns
    found = []
    for name, first in zip(names, firsts or [0] * len(names), strict=True):
        start, end = np.frombuffer(store.read_range(name, 8 * bucket, 16), dtype=np.uint64).tolist()
        if start == end:
            continue
        content = store.read_range(name, header + start * width, (end - start) * width)
        rows = np.frombuffer(content, dtype=np.uint64).reshape(-1, columns)
        found.append(np.column_stack([rows[:, :-1], rows[:, -1] + np.uint64(first)]) if first else rows)
    merged = np.concatenate([np.empty((0, columns), dtype=np.uint64), *found])
    return merged[np.argsort(merged[:, 0], kind="stable")]


def group_starts(*columns: Keys) -> Integers:
    """Where each group of equal rows begins, in columns that are sorted together, and the number of rows at the end."""
    size = columns[0].size
    if not size:
        return np.zeros(1, dtype=np.int64)
    differs = np.zeros(size - 1, dtype=bool)
    for column in columns:
        differs |= column[1:] != column[:-1]
    return np.concatenate([[0], np.flatnonzero(differs) + 1, [size]])
