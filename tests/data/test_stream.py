"""The training order: a permutation per epoch, seekable, the same for any number of ranks, weights honoured."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.data import Manifest, Stream
from tenfold.data.corpus import ShardWriter
from tenfold.data.manifest import SourceText
from tenfold.data.stream import permute


def make_corpus(directory: Path, sizes: list[int], weights: list[float | None]) -> Manifest:
    """Sources whose tokens are all different, so that a window tells where it was read."""
    sources = []
    start = 0
    for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        writer = ShardWriter(directory, f"s{number}", 100, np.dtype(np.uint32))
        writer.append(range(start, start + size))
        sources.append(SourceText(f"s{number}", 1, size, size, weight, None, writer.close()))
        start += size
    return Manifest("", "", "", start, 0, "uint32", 13, sources, [], {})


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(size: int, key: int) -> None:
    keys = np.full(size, key, dtype=np.uint64)
    assert sorted(permute(np.arange(size), size, keys)) == list(range(size))


@given(seed=st.integers(0, 2**63 - 1), sizes=st.lists(st.integers(20, 400), min_size=1, max_size=4))
def test_an_epoch_shows_every_window_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("corpus")
    stream = Stream(directory, make_corpus(directory, sizes, [None] * len(sizes)), seed, 7)
    for epoch in range(2):
        batch = stream.batch(epoch * stream.samples_per_epoch, stream.samples_per_epoch)
        assert len(set(batch[:, 0].tolist())) == stream.samples_per_epoch
        assert (np.diff(batch.astype(np.int64), axis=1) == 1).all()


@given(start=st.integers(0, 10**9), ranks=st.sampled_from([1, 2, 4, 8]), weighted=st.booleans())
def test_order_is_seekable_and_independent_of_ranks(
    tmp_path_factory: pytest.TempPathFactory, start: int, ranks: int, weighted: bool
) -> None:
    directory = tmp_path_factory.mktemp("corpus")
    manifest = make_corpus(directory, [500, 300], [3.0, 1.0] if weighted else [None, None])
    stream = Stream(directory, manifest, 5, 7)
    whole = stream.batch(start, 8)
    share = 8 // ranks
    parts = [Stream(directory, manifest, 5, 7).batch(start + rank * share, share) for rank in range(ranks)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert np.array_equal(whole[3], stream.sample(start + 3))


@given(weights=st.lists(st.floats(0.05, 1.0), min_size=2, max_size=5))
def test_mixture_shares_are_honoured(tmp_path_factory: pytest.TempPathFactory, weights: list[float]) -> None:
    directory = tmp_path_factory.mktemp("corpus")
    stream = Stream(directory, make_corpus(directory, [300] * len(weights), list(weights)), 3, 7)
    sources, _ = stream.locate(np.arange(8192))
    shares = np.bincount(sources, minlength=len(weights)) / 8192
    assert np.abs(shares - np.asarray(weights) / sum(weights)).max() < 0.005


def test_a_weighted_source_runs_through_epochs_of_its_own(tmp_path: Path) -> None:
    stream = Stream(tmp_path, make_corpus(tmp_path, [701, 701], [1.0, 3.0]), 3, 7)
    sources, windows = stream.locate(np.arange(4096))
    for source in (0, 1):
        shown = np.bincount(windows[sources == source], minlength=100)
        assert shown.max() - shown.min() <= 1


def test_a_corpus_shorter_than_a_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not fill one sample of 64"):
        Stream(tmp_path, make_corpus(tmp_path, [20], [None]), 1, 64)


def test_a_weighted_source_shorter_than_a_sample_is_refused_by_name(tmp_path: Path) -> None:
    manifest = make_corpus(tmp_path, [20, 500], [1.0, 1.0])
    with pytest.raises(InputError, match="source 's0' has a weight but its 20 tokens do not fill one sample of 64"):
        Stream(tmp_path, manifest, 1, 64)


@given(sizes=st.lists(st.integers(1, 90), min_size=2, max_size=6), seed=st.integers(0, 2**63 - 1))
def test_no_source_falls_away_for_being_short(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int
) -> None:
    """All but the last window's rest of each row is seen in an epoch, whatever is shorter than a sample."""
    directory, context = tmp_path_factory.mktemp("corpus"), 31
    if sum(sizes) <= context:
        sizes = [*sizes, context]
    stream = Stream(directory, make_corpus(directory, sizes, [None] * len(sizes)), seed, context)
    seen = set(stream.batch(0, stream.samples_per_epoch).ravel().tolist())
    rows = sum(size > context for size in sizes) + 1  # the short ones are one row at most
    assert len(seen) > sum(sizes) - rows * context


def test_sources_that_fill_samples_are_read_as_they_were_before_short_ones_were_packed(tmp_path: Path) -> None:
    alone = Stream(tmp_path, make_corpus(tmp_path, [500, 300], [None, None]), 5, 7)
    beside = Stream(tmp_path / "b", make_corpus(tmp_path / "b", [500, 300, 5, 4], [None] * 4), 5, 7)
    assert beside.epochs(beside.samples_per_epoch) == {"s0": 1.0, "s1": 1.0, "s2 + s3": 1.0}
    assert alone.epochs(alone.samples_per_epoch) == {"s0": 1.0, "s1": 1.0}
    assert sorted(alone.batch(0, alone.samples_per_epoch)[:, 0]) == sorted(
        row for row in beside.batch(0, beside.samples_per_epoch)[:, 0] if row < 800
    )


@given(samples=st.integers(1, 20_000), weights=st.lists(st.floats(0.05, 1.0), min_size=1, max_size=4))
def test_epochs_are_counted_for_each_source(
    tmp_path_factory: pytest.TempPathFactory, samples: int, weights: list[float]
) -> None:
    directory = tmp_path_factory.mktemp("corpus")
    sizes = [50 + 100 * number for number in range(len(weights))]
    stream = Stream(directory, make_corpus(directory, sizes, list(weights)), 3, 7)
    rows, _ = stream.locate(np.arange(samples))
    counted = np.bincount(rows, minlength=len(weights))
    expected = {f"s{n}": counted[n] / ((size - 1) // 7) for n, size in enumerate(sizes)}
    assert stream.epochs(samples) == pytest.approx(expected)


def test_a_place_says_source_window_and_epoch(tmp_path: Path) -> None:
    stream = Stream(tmp_path, make_corpus(tmp_path, [71, 701], [1.0, 1.0]), 3, 7)
    places = [stream.place(number) for number in range(4096)]
    small = [(place.window, place.epoch) for place in places if place.sources == "s0"]
    assert set(small) >= {(window, epoch) for window in range(10) for epoch in range(len(small) // 10)}
    assert len(set(small)) == len(small)
    for number, place in enumerate(places[:200]):
        assert stream.sample(number)[0] == place.window * 7 + (71 if place.sources == "s1" else 0)
