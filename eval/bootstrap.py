"""Intervals by resampling whole documents: tokens of one file are not independent draws."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Real

FEWEST = 10
"""Below so many documents no interval is given: it would be too narrow."""
DRAWS = 2000
LEVEL = 0.95
MOST_INDICES = 2**20
"""Drawn at once, for memory's sake."""


class Interval(NamedTuple):
    """A value with its 95 % interval, the draws behind it, and why anything of it is missing."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    flags: tuple[str, ...] = ()


def ratio(
    above: Real[np.ndarray, " document"],
    below: Real[np.ndarray, " document"],
    *,
    seed: int,
    what: str = "documents",
) -> Interval:
    """sum(above) / sum(below) and its interval over documents, a pure function of the seed."""
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    n, holding = len(above), int(np.count_nonzero(below))
    if not below.sum():
        return Interval(None, None, None, n, (f"no value: none of {n} {what} holds any of it",))
    value = float(above.sum() / below.sum())
    if holding < FEWEST:
        flag = f"no interval: {holding} {what} are too few to resample; {FEWEST} are needed"
        return Interval(value, None, None, n, (flag,))
    drawn = _resampled(above, below, np.random.default_rng(seed))
    tail = expanded_tail(effective(below))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)


def effective(weights: Real[np.ndarray, " document"]) -> float:
    """How many documents of equal size are worth as much as these (Kish): `(Σ w)² / Σ w²`."""
    return float(weights.sum() ** 2 / np.square(weights).sum())


def mean(values: Real[np.ndarray, " draw"], *, seed: int, what: str = "documents") -> Interval:
    """The plain mean of independent draws, with its interval."""
    return ratio(values, np.ones(len(values)), seed=seed, what=what)


def expanded_tail(n: float) -> float:
    """Tail probability of the percentile interval, widened for few draws (arXiv 1411.5279, §4.1).

    Plain percentiles are too narrow by √((n-1)/n) and by the normal's tails beside Student's.
    """
    # Below two, where one document is nearly all of them, nothing is left to estimate from.
    z, v = NormalDist().inv_cdf((1 + LEVEL) / 2), max(n, 2.0) - 1
    n = v + 1
    # Student's quantile by its Cornish–Fisher expansion (Abramowitz & Stegun 26.7.5).
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return NormalDist().cdf(-((n / v) ** 0.5) * t)


def _resampled(above: np.ndarray, below: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n, drawn = len(above), []
    at_once = max(1, MOST_INDICES // n)
    for first in range(0, DRAWS, at_once):
        picked = rng.integers(0, n, (min(at_once, DRAWS - first), n))
        held = below[picked].sum(1)
        drawn.append(above[picked].sum(1)[held > 0] / held[held > 0])
    return np.concatenate(drawn)
