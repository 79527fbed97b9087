"""How well units follow targets, true or believed: correlation, and F1 and AUROC of the best unit.

Every choice (unit, sign, threshold, matching) is made on half A and scored on half B.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped

from pellucid.eval.bootstrap import DRAWS, FEWEST, Interval, expanded_tail
from pellucid.eval.harvest import CHUNK, Harvest

CANDIDATES = 8
"""Units of highest correlation on half A among which a label's best threshold is looked for."""


def rows_of(
    harvest: Harvest, chosen: Bool[np.ndarray, " token"]
) -> Iterator[Float32[np.ndarray, "chosen unit"]]:
    """All units on the chosen tokens, some at a time, in order; nothing is read after the last."""
    end = int(np.flatnonzero(chosen).max(initial=-1)) + 1
    for first in range(0, end, CHUNK):
        last = min(first + CHUNK, end)
        yield harvest.rows(first, last)[chosen[first:last]]


def columns_of(
    harvest: Harvest, units: Int64[np.ndarray, " wanted"], chosen: Bool[np.ndarray, " token"]
) -> Float32[np.ndarray, "chosen wanted"]:
    """Some units on the chosen tokens."""
    return np.concatenate([rows[:, units] for rows in rows_of(harvest, chosen)])


def correlations(
    harvest: Harvest,
    targets: Shaped[np.ndarray, "token target"],
    chosen: Bool[np.ndarray, " token"],
) -> Float64[np.ndarray, "target unit"]:
    """Pearson correlation of every target with every unit over the chosen tokens; 0 for a constant."""
    n, units = int(chosen.sum()), harvest.about.n_units
    wanted = targets[chosen].astype(np.float64)
    wanted -= wanted.mean(0)
    total, square, cross = np.zeros(units), np.zeros(units), np.zeros((wanted.shape[1], units))
    seen = 0
    for rows in rows_of(harvest, chosen):
        here = rows.astype(np.float64)
        total += here.sum(0)
        square += np.square(here).sum(0)
        cross += wanted[seen : seen + len(here)].T @ here
        seen += len(here)
    spread = np.sqrt(np.clip(square - total**2 / n, 0, None))
    scale = np.sqrt(np.square(wanted).sum(0))[:, None] * spread
    alive = (spread > 1e-6 * np.sqrt(square))[None] & (scale > 0)
    return np.divide(cross, scale, out=np.zeros_like(cross), where=alive)


def candidates(
    correlation: Float64[np.ndarray, "target unit"],
) -> tuple[Int64[np.ndarray, "target candidate"], Float64[np.ndarray, "target candidate"]]:
    """For every target the units of highest |correlation|, and the signs of theirs."""
    count = min(CANDIDATES, correlation.shape[1])
    units = np.argsort(-np.abs(correlation), axis=1, kind="stable")[:, :count]
    return units, np.where(np.take_along_axis(correlation, units, 1) < 0, -1.0, 1.0)


def best_threshold(
    values: Float[np.ndarray, " token"], held: Bool[np.ndarray, " token"]
) -> tuple[float, float]:
    """(F1, threshold) of the best rule `value > threshold`, threshold being one of the values or
    below all of them."""
    order = np.argsort(-values, kind="stable")
    ordered, hits = values[order], held[order].cumsum()
    # A rule can only stop where the next value is smaller: equal values fire together.
    stops = np.append(ordered[1:] < ordered[:-1], True)
    scores = np.where(stops, 2 * hits / (np.arange(1, len(order) + 1) + hits[-1]), 0)
    at = int(scores.argmax())
    lower = ordered[at + 1] if at + 1 < len(ordered) else -np.inf
    return float(scores[at]), float(lower)


def auroc(values: Float[np.ndarray, " token"], held: Bool[np.ndarray, " token"]) -> float:
    """Share of (held, not held) pairs that the values put in order; ties count half."""
    _, rank, count = np.unique(values, return_inverse=True, return_counts=True)
    middle = count.cumsum() - (count - 1) / 2
    positive = int(held.sum())
    negative = len(held) - positive
    if not positive or not negative:
        return 0.5
    pairs = middle[rank][held].sum() - positive * (positive + 1) / 2
    return float(pairs / (positive * negative))


def over_documents(
    sums: Float[np.ndarray, "document part label"], combine, *, seed: int
) -> Interval:
    """`combine(sums over documents (part, label))` -> value per label; its mean over labels with an
    interval over documents."""
    value, n = float(np.nanmean(combine(sums.sum(0)))), len(sums)
    if n < FEWEST:
        flag = f"no interval: {n} documents are too few to resample; {FEWEST} are needed"
        return Interval(value, None, None, n, (flag,))
    generator, tail = np.random.default_rng(seed), expanded_tail(n)
    weights = generator.multinomial(n, np.full(n, 1 / n), DRAWS)
    drawn = np.tensordot(weights, sums, axes=1)
    means = np.array([np.nanmean(combine(one)) for one in drawn])
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)


def f1_of(sums: Float[np.ndarray, "part label"]) -> Float64[np.ndarray, " label"]:
    """F1 from (hits, firings, holdings); NaN for a label that never holds, which is left out."""
    hits, fires, held = sums
    return np.where(held > 0, 2 * hits / np.maximum(fires + held, 1), np.nan)


def correlation_of(sums: Float[np.ndarray, "part label"]) -> Float64[np.ndarray, " label"]:
    """|Pearson correlation| from (n, x, y, xx, yy, xy); 0 where either is constant."""
    n, x, y, xx, yy, xy = sums
    spread = np.clip(n * xx - x**2, 0, None) * np.clip(n * yy - y**2, 0, None)
    known = spread > 1e-12 * (n**2 * xx * yy + 1e-300)
    return np.abs(np.divide(n * xy - x * y, np.sqrt(spread), out=np.zeros_like(x), where=known))


def document_sums(
    parts: list[np.ndarray], documents: Int64[np.ndarray, " token"]
) -> Float64[np.ndarray, "document part label"]:
    """Sums over the tokens of each document, which stand together."""
    starts = np.flatnonzero(np.diff(documents, prepend=-1))
    return np.stack([np.add.reduceat(part.astype(np.float64), starts) for part in parts], axis=1)
