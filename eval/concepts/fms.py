"""FMS, the feature monosemanticity score (arXiv 2506.19382), with balanced accuracy.

How well the best unit alone tells a label, how much is lost without it (local: nothing else knows),
and how little further units add (global: nothing else is needed).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pellucid.eval.concepts.tree import Weighed, balanced_accuracy, by_depth, cuts

DEPTH = 4
"""Depths of tree over which the global part is averaged."""


class Parts(NamedTuple):
    """The score of one label and what it is made of; all accuracies are balanced, and of B."""

    score: float
    alone: float
    """accuracy of the root unit: accs₀"""
    local: float
    overall: float
    """the global part: 1 - mean over depths of what the deeper tree adds"""


def parts(
    x_a: Float[np.ndarray, "token unit"],
    y_a: Bool[np.ndarray, " token"],
    x_b: Float[np.ndarray, "other unit"],
    y_b: Bool[np.ndarray, " other"],
    *,
    without: Sequence[int] = (1,),
    depth: int = DEPTH,
) -> dict[int, Parts]:
    """FMS@p for each p of `without`: trees are grown on A and scored on B.

    score = accs₀ · (local + global) / 2, local = 2·(accs₀ - accs_p), accs_p the root's accuracy when
    the p best roots are taken away, global = 1 - mean over i of (accs_cum_i - accs₀).
    """
    data = Weighed.of(x_a, y_a)
    impurity, at = cuts(data)
    ranked = np.argsort(impurity, kind="stable")
    ranked = ranked[np.isfinite(impurity[ranked])]

    def accuracy(rank: int) -> float:
        # Nothing is left that varies: a coin's accuracy.
        if rank >= len(ranked):
            return 0.5
        return _alone(data, x_b, y_b, int(ranked[rank]), float(at[ranked[rank]]))

    alone = accuracy(0)
    deeper = [balanced_accuracy(says, y_b) for says in by_depth(data, x_b, depth)]
    overall = 1 - float(np.mean(deeper)) + alone
    local = {p: 2 * (alone - accuracy(p)) for p in without}
    return {
        p: Parts(alone * (part + overall) / 2, alone, part, overall) for p, part in local.items()
    }


def _alone(data: Weighed, x: np.ndarray, y: np.ndarray, column: int, at: float) -> float:
    low = data.x[:, column] <= at
    away, towards = data.weight[:, low].sum(1)
    rest = data.weight[:, ~low].sum(1)
    says = np.where(x[:, column] <= at, towards > away, rest[1] > rest[0])
    return balanced_accuracy(says, y)
