"""Near duplicates by MinHash over runs of five words (Broder 1997; LSH bands: Indyk-Motwani 1998).

Documents arrive one by one and are compared with those already kept, so ten thousand copies of a
license cost ten thousand comparisons and not their square. Memory: 0.5 kB a document.
"""

import re
import zlib
from collections import defaultdict

import numpy as np

SHINGLE_WORDS = 5
PERMUTATIONS = 128
# A pair exactly at the threshold is overlooked at most this often.
MISSED = 0.01
SHINGLES_AT_ONCE = 1 << 13
WORD = re.compile(rb"\w+")

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer (Steele et al. 2014): a bijection of uint64 that looks random."""
    x = (x ^ (x >> np.uint64(30))) * MIX_1
    x = (x ^ (x >> np.uint64(27))) * MIX_2
    return x ^ (x >> np.uint64(31))


_STEPS = GOLDEN * np.arange(1, 2 * PERMUTATIONS + 1, dtype=np.uint64)
MULTIPLIERS = mix(_STEPS[:PERMUTATIONS]) | np.uint64(1)
OFFSETS = mix(_STEPS[PERMUTATIONS:])


def shingles(text: str) -> np.ndarray:
    """Distinct 64-bit hashes of the runs of five words (n,); a shorter text is one run."""
    words = WORD.findall(text.lower().encode())
    hashes = mix(np.fromiter(map(zlib.crc32, words), dtype=np.uint64, count=len(words)))
    runs = max(1, len(words) - SHINGLE_WORDS + 1) if words else 0
    combined = np.zeros(runs, dtype=np.uint64)
    for place in range(min(SHINGLE_WORDS, len(words))):
        combined = mix(combined + hashes[place : place + runs] + GOLDEN)
    return np.unique(combined)


def signature(text: str) -> np.ndarray | None:
    """The smallest of each permutation's values over the shingles (128,) uint32; None: no words."""
    found = shingles(text)
    if found.size == 0:
        return None
    smallest = np.full(PERMUTATIONS, np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, found.size, SHINGLES_AT_ONCE):
        part = found[start : start + SHINGLES_AT_ONCE, None]
        values = ((part * MULTIPLIERS + OFFSETS) >> np.uint64(32)).astype(np.uint32)
        np.minimum(smallest, values.min(axis=0), out=smallest)
    return smallest


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Estimated Jaccard similarity: the share of equal minima (standard error at most 0.044)."""
    return float(np.mean(a == b))


def rows_per_band(threshold: float) -> int:
    """The longest bands (fewest idle comparisons) that still miss at most 1 % at the threshold."""
    for rows in range(16, 1, -1):
        if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISSED:
            return rows
    return 1


class NearDuplicates:
    """Remembers the documents kept so far and recognizes a near copy of one of them."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.rows = rows_per_band(threshold)
        self.bands = PERMUTATIONS // self.rows
        self._names: list[str] = []
        self._signatures: list[np.ndarray] = []
        self._buckets: dict[bytes, list[int]] = defaultdict(list)

    def copy_of(self, name: str, text: str) -> str | None:
        """The name of the kept document that `text` nearly equals; else keep it and give None."""
        minima = signature(text)
        if minima is None:
            return None
        keys = self._band_keys(minima)
        for kept in sorted({index for key in keys for index in self._buckets.get(key, ())}):
            if similarity(self._signatures[kept], minima) >= self.threshold:
                return self._names[kept]
        self._remember(name, minima, keys)
        return None

    def _band_keys(self, minima: np.ndarray) -> list[bytes]:
        bands = minima[: self.bands * self.rows].reshape(self.bands, self.rows)
        hashed = np.arange(self.bands, dtype=np.uint64)
        for row in range(self.rows):
            hashed = mix(hashed + bands[:, row] + GOLDEN)
        return [key.tobytes() for key in hashed]

    def _remember(self, name: str, minima: np.ndarray, keys: list[bytes]) -> None:
        for key in keys:
            self._buckets[key].append(len(self._names))
        self._names.append(name)
        self._signatures.append(minima)
