"""A shuffle that needs no memory and no library's random stream.

A Feistel network on pairs (left, right) of Z_a x Z_b with a*b >= n (Black and Rogaway 2002) and
cycle walking: a bijection of {0 … n-1} for every key, computed only where it is asked for.
"""

import hashlib
import math

import numpy as np

from pellucid.data.near_duplicates import mix

ROUNDS = 12


def round_keys(*key: int | str) -> np.ndarray:
    """Independent 64-bit keys (ROUNDS,) from any integers and words."""
    words = "/".join(map(str, key)).encode()
    raw = hashlib.shake_256(words).digest(8 * ROUNDS)
    return np.frombuffer(raw, dtype="<u8").astype(np.uint64)


def permute(index: np.ndarray, n: int, keys: np.ndarray) -> np.ndarray:
    """Where the permutation of {0 … n-1} that `keys` chooses sends each `index` (int64)."""
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    x = _network(index.astype(np.uint64), np.uint64(a), np.uint64(b), keys)
    # a*b exceeds n by less than a, so few points leave the range, and walking brings them back.
    while (outside := x >= n).any():
        x[outside] = _network(x[outside], np.uint64(a), np.uint64(b), keys)
    return x.astype(np.int64)


def _network(x: np.ndarray, a: np.uint64, b: np.uint64, keys: np.ndarray) -> np.ndarray:
    left, right = x // b, x % b
    for first, second in zip(keys[::2], keys[1::2], strict=True):
        left = (left + mix(right + first) % a) % a
        right = (right + mix(left + second) % b) % b
    return left * b + right
