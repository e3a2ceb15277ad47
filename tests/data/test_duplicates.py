"""Near-duplicates: the bands and the clusters of a library, and of every pair compared with every other."""

import random

import numpy as np
import pytest
from datasketch import MinHashLSH
from hypothesis import given
from hypothesis import strategies as st

from tenfold.data import duplicates
from tenfold.data.duplicates import (
    PERMUTATIONS,
    Integers,
    Signatures,
    band_hashes,
    bands_of,
    representatives,
    shingles_of,
    signature,
    similar_pairs,
)
from tenfold.data.tasks.tables import group_starts
from tenfold.data.words import hash_words
from tests.data.texts import library_texts


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.45, 0.5, 0.6, 0.7, 0.77, 0.8, 0.9, 0.95])
def test_bands_are_those_of_a_library(threshold: float) -> None:
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    assert bands_of(threshold) == (index.b, index.r)


def clusters(signatures: Signatures, threshold: float) -> dict[int, int]:
    """First of its cluster for each document that is not that first one."""
    hashes = band_hashes(signatures, threshold)
    numbers = np.repeat(np.arange(len(signatures)), hashes.shape[1])
    order = np.argsort(hashes.ravel(), kind="stable")
    groups = group_starts(hashes.ravel()[order])
    found = list(similar_pairs(groups, numbers[order], lambda wanted: signatures[wanted], threshold))
    return dict(representatives(np.concatenate([np.empty((0, 2), dtype=np.int64), *found])).tolist())


def by_every_pair(signatures: Signatures, threshold: float) -> dict[int, int]:
    """The same by comparing each with each that shares a band."""
    hashes, first = band_hashes(signatures, threshold), list(range(len(signatures)))
    for one in range(len(signatures)):
        for other in range(one):
            shares = (hashes[one] == hashes[other]).any()
            if shares and np.mean(signatures[one] == signatures[other]) >= threshold:
                low, high = sorted((first[one], first[other]))
                first = [low if each == high else each for each in first]
    return {number: own for number, own in enumerate(first) if own != number}


@given(st.integers(0, 2**32), st.sampled_from([0.3, 0.5, 0.7]))
def test_clusters_are_those_of_every_pair(seed: int, threshold: float) -> None:
    draw = np.random.default_rng(seed)
    bases = draw.integers(0, 2**32, size=(4, PERMUTATIONS), dtype=np.uint32)
    rows = bases[draw.integers(0, 4, size=30)]
    changed = draw.random(rows.shape) < draw.random((30, 1)) * 0.6
    rows[changed] = draw.integers(0, 2**32, size=int(changed.sum()), dtype=np.uint32)
    assert clusters(rows, threshold) == by_every_pair(rows, threshold)


def test_real_texts_with_a_few_words_changed_are_found_and_others_are_not() -> None:
    texts, draw = library_texts(20), random.Random(1)
    edited = [" ".join(word if draw.random() > 0.01 else "other" for word in text.split(" ")) for text in texts[:10]]
    rows = np.array([signature(shingles_of(hash_words(text))) for text in [*texts, *edited]])
    assert clusters(rows, 0.7) == {20 + number: number for number in range(10)}


def test_a_group_larger_than_is_compared_at_once_is_joined_by_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "LARGEST_GROUP", 8)
    rows = np.tile(np.arange(PERMUTATIONS, dtype=np.uint32), (50, 1))
    rows[20:, :60] = np.arange(30)[:, None] + 1000  # these are like one another in half of their places, and like 0
    asked: list[int] = []

    def signatures_of(wanted: Integers) -> Signatures:
        asked.append(wanted.size)
        return rows[wanted]

    found = list(similar_pairs(np.array([0, 50]), np.arange(50), signatures_of, 0.5))
    assert {number for number, _ in representatives(np.concatenate(found)).tolist()} == set(range(1, 50))
    assert max(asked) <= 8
