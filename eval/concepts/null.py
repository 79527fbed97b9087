"""What the same choice finds where there is nothing to find: labels permuted by document.

With many units the best F1 under permuted labels is far from 0, and grows with their density.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from pellucid.eval.bootstrap import Interval
from pellucid.eval.concepts.compared import thresholds_of
from pellucid.eval.concepts.counts import count
from pellucid.eval.concepts.picks import Pick, best, f1_of, fires
from pellucid.eval.concepts.remembered import remembered
from pellucid.eval.concepts.resampled import f1s
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest

DRAWS = 20
"""Permutations: the 95th percentile is that of the second-highest of them, between the two."""
NUMBERS = 2**26
"""Counts made at once."""


def permutation_null(
    harvest: Harvest,
    truth: Truth,
    *,
    seed: int,
    of: Callable[[Float[np.ndarray, " label"]], float] = lambda f1: float(f1.mean()),
) -> Interval:
    """95th percentile over permutations of a number made of the best units' F1, by label."""
    found = [of(drawn) for drawn in permuted_f1s(harvest, truth, seed=seed)]
    return Interval(float(np.quantile(found, 0.95)), None, None, len(found))


@remembered
def permuted_f1s(
    harvest: Harvest, truth: Truth, *, seed: int, draws: int = DRAWS
) -> Float[np.ndarray, "draw label"]:
    """F1 on half B of the unit best on half A for each label of each permutation."""
    thresholds = thresholds_of(harvest, truth)
    per_draw = thresholds.size * (len(truth.names) + 1)
    at_once = max(1, min(draws, NUMBERS // max(per_draw, 1)))
    seeds = np.random.SeedSequence(seed).generate_state(draws).tolist()
    found = []
    for first in range(0, draws, at_once):
        drawn = [truth.permuted(one) for one in seeds[first : first + at_once]]
        found += _scored(harvest, thresholds, drawn)
    return np.stack(found)


def _scored(harvest: Harvest, thresholds: np.ndarray, drawn: list[Truth]) -> list[np.ndarray]:
    """F1 on half B of what is best on half A, by label, for several truths in one pass."""
    width = len(drawn[0].names)
    columns = np.concatenate([drawn[0].columns[:, :1], *(t.holds for t in drawn)], axis=1)
    half = np.where(drawn[0].half == 0, 0, -1)
    counts = count(harvest, thresholds, columns, half, n_halves=1)
    picks = [
        best(
            f1_of(counts[..., [0, *range(1 + i * width, 1 + (i + 1) * width)]], held)[0], thresholds
        )
        for i, held in enumerate(t.held_a[None] for t in drawn)
    ]
    joined = Pick(*(np.concatenate(parts) for parts in zip(*picks)))
    said = fires(harvest, joined)
    return [f1s(t.table(said[:, i * width : (i + 1) * width])) for i, t in enumerate(drawn)]
