"""A keyed permutation of 0 … n − 1, computed and never stored: O(1) to seek anywhere.

A balanced Feistel network over the next even power of two, walked until it lands inside (Black and Rogaway, "Ciphers
with arbitrary finite domains", CT-RSA 2002). It shuffles; it keeps no secrets.
"""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # SplitMix64 (Steele et al., 2014)
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

Integers = NDArray[np.uint64]


def mix(x: Integers) -> Integers:
    """SplitMix64's finaliser: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * _MULTIPLIERS[0]
    x = (x ^ (x >> np.uint64(27))) * _MULTIPLIERS[1]
    return x ^ (x >> np.uint64(31))


def derive_keys(seed: int, purpose: int, pool: int, rounds: NDArray[np.int64]) -> Integers:
    """A 64-bit key for each of `rounds` (epochs or blocks of one pool). Same shape."""
    keys = np.zeros(rounds.shape, dtype=np.uint64)
    for part in (seed, purpose, pool):
        keys = mix(keys + np.uint64((part * 2 + 1) * _GOLDEN & _MASK))
    return mix(keys + (rounds.astype(np.uint64) * np.uint64(2) + np.uint64(1)) * np.uint64(_GOLDEN))


def permute(positions: NDArray[np.integer], size: int, keys: Integers) -> NDArray[np.int64]:
    """Where each position of 0 … size − 1 goes under its key. Same shape as `positions`, like `keys`."""
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    out = _feistel(positions.astype(np.uint64), half_bits, keys)
    outside = out >= size
    while outside.any():
        out[outside] = _feistel(out[outside], half_bits, keys[outside])
        outside = out >= size
    return out.astype(np.int64)


def _feistel(x: Integers, half_bits: int, keys: Integers) -> Integers:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = x >> shift, x & mask
    for number in range(ROUNDS):
        round_keys = keys + np.uint64((number + 1) * _GOLDEN & _MASK)
        left, right = right, left ^ (mix(right + round_keys) & mask)
    return (left << shift) | right
