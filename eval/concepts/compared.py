"""What is found by comparing the units of a site with labels, once for all metrics."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from pellucid.eval.concepts.counts import count
from pellucid.eval.concepts.picks import (
    Pick,
    any_fires,
    best,
    f1_of,
    fires,
    precise,
)
from pellucid.eval.concepts.remembered import remembered
from pellucid.eval.concepts.thresholds import at_fractions, tops
from pellucid.eval.concepts.truth import Counts, Truth
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue

LEADING = 64
"""Units remembered for each label: candidates for whatever looks at several units."""


TRAILING, OFTEN = 2, 10
"""Units remembered for each label that tell it worst, among the one in OFTEN that fires most often."""


class Compared(NamedTuple):
    """Choices made on half A, and how they do on half B."""

    pick: Pick
    """the best setting of each label"""
    picked: Counts
    """how it does"""
    reconstructed: Counts
    """how the units that are precise for a label do together"""
    leading: Pick
    """the best settings of the LEADING units best for each label, by rank: `(rank, label)`"""
    trailing: Pick
    """the best settings of the TRAILING units worst for each label, by rank: `(rank, label)`"""
    splitters: Integer[np.ndarray, "rank label"]
    """the units that split a label's tokens best, by Gini impurity at the best threshold"""


@remembered
def compared(harvest: Harvest, truth: Truth) -> Compared:
    """Compare a site's units with labels. Raises NoValue where no unit is ever on, or one is NaN."""
    thresholds, counts = on_a(harvest, truth)
    f1_a = f1_of(counts, truth.held_a[None])[0]
    pick = best(f1_a, thresholds)
    every = precise(counts[0], thresholds)
    return Compared(
        pick=pick,
        picked=truth.table(fires(harvest, pick)),
        reconstructed=truth.table(any_fires(harvest, every)),
        leading=_ranked(f1_a, thresholds, slice(None), LEADING),
        trailing=_ranked(f1_a, thresholds, _frequent(counts[0]), TRAILING, best_first=False),
        splitters=_splitters(counts[0], truth),
    )


def on_a(
    harvest: Harvest, truth: Truth
) -> tuple[
    Float[np.ndarray, "sign unit threshold"],
    Integer[np.ndarray, "half sign threshold unit column"],
]:
    """Thresholds at fractions of each unit's largest value, and counts at them on half A alone."""
    thresholds = thresholds_of(harvest, truth)
    half = np.where(truth.half == 0, 0, -1)
    return thresholds, count(harvest, thresholds, truth.columns, half, n_halves=1)


@remembered
def thresholds_of(harvest: Harvest, truth: Truth) -> Float[np.ndarray, "sign unit threshold"]:
    """Fractions of each unit's largest value on half A. Raises NoValue where all are silent."""
    top = tops(harvest, truth.a)
    if not top.any():
        raise NoValue("no unit of this layer was ever active on half A")
    return at_fractions(top)


def _ranked(
    f1_a: np.ndarray,
    thresholds: np.ndarray,
    of: slice | Integer[np.ndarray, " unit"],
    most: int,
    *,
    best_first: bool = True,
) -> Pick:
    """The best settings of these units for each label, the best unit first, or the worst."""
    n_signs, n_thresholds, n_units, n_labels = f1_a.shape
    flat = f1_a.reshape(n_signs * n_thresholds, n_units, n_labels)[:, of]
    setting, score = flat.argmax(0), flat.max(0)
    at = np.argsort(-score if best_first else score, axis=0, kind="stable")[:most]
    sign, level = np.divmod(np.take_along_axis(setting, at, 0), n_thresholds)
    score = np.take_along_axis(score, at, 0).astype(np.float64)
    unit = np.arange(n_units)[of][at]
    return Pick(unit, 1 - 2 * sign, thresholds[sign, unit, level], score)


def _frequent(counts: np.ndarray) -> Integer[np.ndarray, " unit"]:
    """The living units that pass the lowest threshold above 0 most often, one in OFTEN of them.

    A unit that seldom fires tells no label: naming it the worst would say nothing.
    """
    fired = counts[:, 1, :, 0].sum(0)
    number = max(TRAILING, -(-int((fired > 0).sum()) // OFTEN))
    return np.sort(np.argsort(-fired, kind="stable")[:number])


def _splitters(counts: np.ndarray, truth: Truth) -> np.ndarray:
    """Classes weigh the same, so that a rare label is not split off by predicting nothing."""
    said, hits = counts[..., :1].astype(np.float32), counts[..., 1:].astype(np.float32)
    held = truth.held_a.astype(np.float32)
    recall, alarms = hits / held, (said - hits) / (len(truth.a) - held)
    # The halves of the cut hold recall + alarms and the rest of a weight of 2.
    inside = recall * alarms / np.maximum(recall + alarms, 1e-12)
    outside = (1 - recall) * (1 - alarms) / np.maximum(2 - recall - alarms, 1e-12)
    impurity = (inside + outside).min((0, 1))
    return np.argsort(impurity, axis=0, kind="stable")[:LEADING]
