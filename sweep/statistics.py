"""What a grid shows: effects paired by seed, with intervals that hold at few seeds.

Student's t throughout: a percentile bootstrap over fewer than ten seeds is too narrow (three seeds
give ten different resamples). Its quantiles come from the regularized incomplete beta function, by
its continued fraction (Abramowitz & Stegun 26.5.8), so that no library is needed for them.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

HEADLINE, EXPLORATORY = 5, 3
"""Seeds that a headline needs, and fewer, which are marked."""
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How an arm differs from its baseline, on the same seeds."""

    value: float | None
    """mean difference, arm minus baseline; none with a reason in `flags`"""
    low: float | None
    high: float | None
    """95 % interval, of Student's t over seeds"""
    p: float | None
    """two-sided, against no difference; not corrected"""
    n: int
    """pairs of runs"""
    flags: tuple[str, ...] = ()


def paired(
    arm: Mapping[int, float], baseline: Mapping[int, float], *, level: float = LEVEL
) -> Effect:
    """The difference between two arms over the seeds that both have."""
    seeds = sorted(set(arm) & set(baseline))
    return effect([arm[seed] - baseline[seed] for seed in seeds], level=level)


def effect(differences: Sequence[float], *, level: float = LEVEL) -> Effect:
    """Mean, interval and p-value of differences, one for each seed."""
    values, n = np.asarray(differences, dtype=np.float64), len(differences)
    if not n:
        return Effect(value=None, low=None, high=None, p=None, n=0, flags=("no seed in common",))
    mean = float(values.mean())
    if n == 1:
        flags = ("no interval: one seed says nothing of others",)
        return Effect(value=mean, low=None, high=None, p=None, n=1, flags=flags)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    reach = t_quantile((1 + level) / 2, n - 1) * error
    p = 2 * t_upper(abs(mean) / error, n - 1) if error else float(mean == 0)
    return Effect(value=mean, low=mean - reach, high=mean + reach, p=p, n=n, flags=_flags(n, error))


def _flags(n: int, error: float) -> tuple[str, ...]:
    flags = [] if n >= HEADLINE else [f"exploratory: {n} seeds; a headline needs {HEADLINE}"]
    return (*flags, *(() if error else ("all differences are equal",)))


def crossed(table: Sequence[Sequence[float]], *, level: float = LEVEL) -> Effect:
    """Mean, interval and p-value of a table (seed, task), seeds and tasks both drawn at random.

    So the interval is about other seeds and other tasks than these: the variance of the mean is
    taken from the mean squares of a two-way layout, (seeds + tasks − rest) / cells, and at least as
    large as either of the first two alone; degrees of freedom are Satterthwaite's. Of one task it
    is `effect` over seeds. Raises ValueError for rows of different lengths.
    """
    values = np.array(table, dtype=np.float64)
    if values.ndim != 2 or 1 in values.shape:
        return effect(values.mean(1) if values.ndim == 2 else [], level=level)
    (n, m), mean = values.shape, float(values.mean())
    seeds, tasks = values.mean(1) - mean, values.mean(0) - mean
    rest = values - mean - seeds[:, None] - tasks[None, :]
    free = np.array([n - 1, m - 1, (n - 1) * (m - 1)])
    squares = [m * np.square(seeds).sum(), n * np.square(tasks).sum(), np.square(rest).sum()]
    parts = np.array(squares) / free * [1, 1, -1]
    if parts.sum() < parts[:2].max():
        parts = np.where(np.arange(3) == parts[:2].argmax(), parts, 0.0)
    error = math.sqrt(parts.sum() / values.size)
    if not error:
        return Effect(value=mean, low=mean, high=mean, p=float(not mean), n=n, flags=_flags(n, 0.0))
    df = float(parts.sum() ** 2 / (parts**2 / free).sum())
    reach, p = t_quantile((1 + level) / 2, df) * error, 2 * t_upper(abs(mean) / error, df)
    return Effect(value=mean, low=mean - reach, high=mean + reach, p=p, n=n, flags=_flags(n, error))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted so that the chance of any false claim among them is held (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


Pair = tuple[float | None, float | None]
"""Of one comparison, p-values against no difference, and against one of the margin or more."""


def holm_of_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """p-values of pairs of hypotheses that exclude each other, adjusted together (Shaffer 1986).

    Of a pair one can be true at most. So at each step no more can be true than there are pairs with
    something left that is not rejected, which is what multiplies where Holm counts hypotheses: the
    chance of any false claim, of either kind, is held. None stands for what was not tested.
    """
    tested = [
        (p, place, which)
        for place, pair in enumerate(pairs)
        for which, p in enumerate(pair)
        if p is not None
    ]
    left = Counter(place for _, place, _ in tested)
    adjusted: list[list[float | None]] = [[None, None] for _ in pairs]
    largest = 0.0
    for p, place, which in sorted(tested):
        largest = max(largest, min(1.0, len(left) * p))
        adjusted[place][which] = largest
        left[place] -= 1
        if not left[place]:
            del left[place]
    return [(apart, within) for apart, within in adjusted]


def equivalence_p(differences: Sequence[float], margin: float) -> float | None:
    """p-value against a difference of the margin or more: two one-sided tests (Schuirmann 1987).

    It is below 0.05 where the 90 % interval lies within ± margin; none at fewer than two seeds.
    Raises ValueError for a margin that is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin}; a number above 0, declared beforehand, is accepted")
    values, n = np.asarray(differences, dtype=np.float64), len(differences)
    if n < 2:
        return None
    room = margin - abs(float(values.mean()))
    error = float(values.std(ddof=1)) / math.sqrt(n)
    if not error:
        return float(room <= 0)
    tail = t_upper(abs(room) / error, n - 1)
    return tail if room >= 0 else 1 - tail


def mean_interval(values: Sequence[float], *, level: float = LEVEL) -> Effect:
    """An arm by itself: its mean over seeds, with Student's interval."""
    return effect(values, level=level)


def t_upper(t: float, df: float) -> float:
    """P(T > t) of Student's t with `df` degrees of freedom, for t ≥ 0."""
    return 0.5 * _incomplete_beta(df / (df + t * t), df / 2, 0.5)


@cache
def t_quantile(share: float, df: float) -> float:
    """The t below which a share of Student's distribution lies, for shares of a half and more."""
    low, high = 0.0, 2.0
    while t_upper(high, df) > 1 - share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_upper(middle, df) > 1 - share else (low, middle)
    return high


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # The fraction converges fast below the mean; above it, by symmetry.
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(front + a * math.log(x) + b * math.log1p(-x)) / a
    return front * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """Lentz's evaluation of the continued fraction."""
    tiny = 1e-300
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _off_zero(1 + term * d, tiny)
            c = _off_zero(1 + term / c, tiny)
            value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return value


def _off_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
