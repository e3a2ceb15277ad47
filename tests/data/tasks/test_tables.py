"""Rows and runs that tasks hand on: what is merged range by range is what a sort of everything gives."""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.data.tasks.keep import up_to
from tenfold.data.tasks.store import LocalWork
from tenfold.data.tasks.tables import KEYS, Rows, group_starts, key_bounds, read_bucket, write_rows, write_run

KEY = st.integers(0, KEYS - 1) | st.integers(0, 3)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_rows_come_back(rows: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        work = LocalWork(Path(folder))
        work.durable = False
        write_rows(work, "some/rows", rows)
        again = Rows(work, "some/rows")
        assert len(again) == len(rows) and again.sizes.tolist() == [len(row) for row in rows]
        assert list(again) == [again[number] for number in range(len(rows))] == rows


@given(st.lists(st.lists(KEY, max_size=12), min_size=1, max_size=4), st.integers(1, 5))
def test_buckets_of_runs_are_the_sorted_whole(runs: list[list[int]], buckets: int) -> None:
    with TemporaryDirectory() as folder:
        work = LocalWork(Path(folder))
        work.durable = False
        names, firsts, everything = [], [], []
        for number, keys in enumerate(runs):
            rows = np.array([(key, place) for place, key in enumerate(keys)], dtype=np.uint64).reshape(-1, 2)
            names.append(f"run-{number}")
            firsts.append(100 * number)
            everything += [(key, 100 * number + place) for place, key in enumerate(keys)]
            write_run(work, names[-1], rows, key_bounds(buckets))
        found = [read_bucket(work, names, bucket, buckets, 2, firsts) for bucket in range(buckets)]
        assert np.concatenate(found).tolist() == [list(row) for row in sorted(everything)]


@given(st.lists(st.integers(0, 3)))
def test_groups_of_equal_rows(values: list[int]) -> None:
    column = np.sort(np.array(values, dtype=np.uint64))
    starts = group_starts(column)
    assert [len(set(column[a:b].tolist())) for a, b in itertools.pairwise(starts)] == [1] * len(set(values))


@given(st.lists(st.integers(1, 50)), st.integers(0, 200))
def test_up_to_takes_whatever_still_fits(sizes: list[int], limit: int) -> None:
    expected, left = [], limit
    for place, size in enumerate(sizes):
        if size <= left:
            expected.append(place)
            left -= size
    assert up_to(np.array(sizes, dtype=np.int64), limit).tolist() == expected
    assert up_to(np.array(sizes, dtype=np.int64), -1).tolist() == list(range(len(sizes)))


def test_a_row_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Rows(LocalWork(tmp_path), "none")
