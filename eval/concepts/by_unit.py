"""Scores of every unit on both halves: how much rests on the number of units, and what most are like."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pellucid.eval.concepts.compared import thresholds_of
from pellucid.eval.concepts.counts import count
from pellucid.eval.concepts.picks import expected_best, f1_of
from pellucid.eval.concepts.remembered import remembered
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest

SIZES = (16, 64, 256, 1024)
"""Numbers of units for which the expected coverage is given."""


class ByUnit(NamedTuple):
    """All of it without a choice made on half B."""

    curve: dict[int, Float[np.ndarray, " label"]]
    """expected F1 on B of the best of n units drawn at random, for each of SIZES there are units for"""
    own: Float[np.ndarray, " unit"]
    """F1 on B of each unit with the label, sign and threshold that fit it best on A"""
    living: Bool[np.ndarray, " unit"]
    """on at least once in half A"""


@remembered
def by_unit(harvest: Harvest, truth: Truth) -> ByUnit:
    """Count on both halves, choose on A for every unit, and score on B."""
    thresholds = thresholds_of(harvest, truth)
    counts = count(harvest, thresholds, truth.columns, truth.half)
    held = (truth.held_a, truth.holds[truth.b].sum(0))
    a, b = (f1_of(counts[h : h + 1], held[h][None])[0] for h in (0, 1))
    n_signs, n_thresholds, n_units, n_labels = a.shape
    a, b = (f.reshape(n_signs * n_thresholds, n_units, n_labels) for f in (a, b))
    setting = a.argmax(0)[None]
    a, b = (np.take_along_axis(f, setting, 0)[0] for f in (a, b))
    label = a.argmax(1)[:, None]
    return ByUnit(
        curve={n: expected_best(a, b, n) for n in SIZES if n <= n_units},
        own=np.take_along_axis(b, label, 1)[:, 0].astype(np.float64),
        living=np.isfinite(thresholds[..., 0]).any(0),
    )
