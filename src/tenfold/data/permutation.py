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


def derive_key(*parts: int) -> int:
    """One 64-bit key from several integers."""
    key = np.zeros(1, dtype=np.uint64)
    for part in parts:
        key = mix(key + np.uint64((part * 2 + 1) * _GOLDEN & _MASK))
    return int(key[0])


def permute(positions: NDArray[np.integer], size: int, key: int) -> NDArray[np.int64]:
    """Where each position of 0 … size − 1 goes. Same shape as `positions`."""
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    out = _feistel(positions.astype(np.uint64), half_bits, key)
    outside = out >= size
    while outside.any():
        out[outside] = _feistel(out[outside], half_bits, key)
        outside = out >= size
    return out.astype(np.int64)


def _feistel(x: Integers, half_bits: int, key: int) -> Integers:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = x >> shift, x & mask
    for number in range(ROUNDS):
        round_key = np.uint64((key + (number + 1) * _GOLDEN) & _MASK)
        left, right = right, left ^ (mix(right + round_key) & mask)
    return (left << shift) | right
