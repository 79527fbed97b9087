"""F1 of units with labels: the best unit, threshold and sign chosen on half A, scored on half B."""

from collections.abc import Iterator
from math import lgamma
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.concepts.counts import blocks
from pellucid.eval.harvest import Harvest

PRECISE = 0.95
"""Precision on half A that admits a unit to the reconstruction of a label (arXiv 2408.00113)."""
FIRINGS = 20
"""Times it must have fired there: the fewest of which one may be wrong."""


class Pick(NamedTuple):
    """For each label the unit, sign and threshold that are best on half A."""

    unit: Integer[np.ndarray, " label"]
    sign: Integer[np.ndarray, " label"]
    threshold: Float[np.ndarray, " label"]
    f1_a: Float[np.ndarray, " label"]
    """0 where nothing ever fires"""


def f1(hits: np.ndarray, fires: np.ndarray, held: np.ndarray) -> np.ndarray:
    """2·hits / (fires + held): the harmonic mean of precision and recall; 0 where nothing fires."""
    return 2 * hits / np.maximum(fires + held, 1)


def f1_of(
    counts: Integer[np.ndarray, "half sign threshold unit column"],
    held: Integer[np.ndarray, "half label"],
) -> Float[np.ndarray, "half sign threshold unit label"]:
    """F1 of every setting with every label. Column 0 of the counts is where a unit fires at all."""
    fires, hits = counts[..., :1], counts[..., 1:]
    return f1(hits, fires, held[:, None, None, None]).astype(np.float32)


def best(
    f1_a: Float[np.ndarray, "sign threshold unit label"],
    thresholds: Float[np.ndarray, "sign unit threshold"],
) -> Pick:
    """The best setting of each label; among equals the first sign, threshold and unit."""
    n_signs, n_thresholds, n_units, n_labels = f1_a.shape
    flat = f1_a.reshape(-1, n_labels)
    chosen = flat.argmax(0)
    sign, threshold, unit = np.unravel_index(chosen, (n_signs, n_thresholds, n_units))
    at = thresholds[sign, unit, threshold]
    return Pick(unit, 1 - 2 * sign, at, flat[chosen, np.arange(n_labels)].astype(np.float64))


def fires(harvest: Harvest, pick: Pick) -> Bool[np.ndarray, "token label"]:
    """On which tokens the picked setting of each label fires."""
    units, column = np.unique(pick.unit, return_inverse=True)
    # A label at a time, each in one piece of memory: a fifth of the time of one comparison of all.
    values = np.ascontiguousarray(harvest.columns(units).T)
    found = np.empty((len(column), harvest.n_tokens), dtype=bool)
    for label, unit in enumerate(column):
        signed = values[unit] * np.float32(pick.sign[label])
        np.greater(signed, pick.threshold[label], out=found[label])
    return found.T


def expected_best(
    f1_a: Float[np.ndarray, "unit label"], f1_b: Float[np.ndarray, "unit label"], n: int
) -> Float[np.ndarray, " label"]:
    """Mean score on B of the unit best on A, over all subsets of n units, in closed form.

    The unit of rank r is the best of a subset with probability C(N-1-r, n-1) / C(N, n).
    """
    total = len(f1_a)
    order = np.argsort(-f1_a, axis=0, kind="stable")
    ranked = np.take_along_axis(f1_b, order, 0)
    share = np.array([_log_choose(total - 1 - r, n - 1) for r in range(total - n + 1)])
    share = np.exp(share - _log_choose(total, n))
    return (share[:, None] * ranked[: len(share)]).sum(0)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def precise(
    counts_a: Integer[np.ndarray, "sign threshold unit column"],
    thresholds: Float[np.ndarray, "sign unit threshold"],
) -> Float[np.ndarray, "sign unit label"]:
    """The lowest threshold at which a unit is precise for a label on half A; infinity if none."""
    fired, hits = counts_a[..., :1], counts_a[..., 1:]
    able = (hits >= PRECISE * fired) & (fired >= FIRINGS)
    first = able.argmax(1)
    found = np.take_along_axis(thresholds, first, axis=2)
    return np.where(able.any(1), found, np.inf).astype(np.float32)


def any_fires(
    harvest: Harvest, thresholds: Float[np.ndarray, "sign unit label"]
) -> Bool[np.ndarray, "token label"]:
    """On which tokens any unit is above its threshold for a label."""
    found = np.zeros((harvest.n_tokens, thresholds.shape[2]), dtype=bool)
    for token, label in _firing(harvest, thresholds):
        found[token, label] = True
    return found


def _firing(
    harvest: Harvest, thresholds: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray | int]]:
    used = np.isfinite(thresholds)
    if harvest.sparse:
        for places in blocks(harvest):
            for s in range(len(thresholds)):
                at = used[s, places.unit].any(1)
                unit, token, value = (part[at] for part in places)
                place, label = np.nonzero((value * (1 - 2 * s))[:, None] > thresholds[s, unit])
                yield token[place], label
        return
    for first, rows in harvest.chunks(2048):
        for s, _, label in zip(*np.nonzero(used.any(1, keepdims=True))):
            units = np.flatnonzero(used[s, :, label])
            fired = (rows[:, units] * (1 - 2 * s) > thresholds[s, units, label]).any(1)
            yield first + np.flatnonzero(fired), label
