"""Coverage at equal densities: units made to fire on the same share of tokens.

A unit that fires with density p by chance has F1 2pq / (p + q) with a label of frequency q, so
layers of different density have different floors. Here every unit fires equally often.
"""

from typing import NamedTuple

import numpy as np

from pellucid.eval.concepts.counts import count
from pellucid.eval.concepts.picks import best, f1_of, fires
from pellucid.eval.concepts.remembered import remembered
from pellucid.eval.concepts.thresholds import DENSITIES, at_densities
from pellucid.eval.concepts.truth import Counts, Truth
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue


class AtDensity(NamedTuple):
    """How the best units do at one density."""

    table: Counts
    able: int
    """units that can fire so often, in either sign"""
    by_chance: float
    """mean F1 of a unit that fires so often and knows nothing"""


@remembered
def coverage_at_densities(harvest: Harvest, truth: Truth) -> dict[float, AtDensity | str]:
    """For each density what was found, or why nothing could be."""
    bars, able = at_densities(harvest, truth.a)
    if not able.any():
        raise NoValue("no unit can fire at any of the densities")
    half = np.where(truth.half == 0, 0, -1)
    counts = count(harvest, bars, truth.columns, half, n_halves=1)
    f1_a = f1_of(counts, truth.held_a[None])[0]
    rates = truth.holds[truth.b].mean(0)
    found: dict[float, AtDensity | str] = {}
    for i, density in enumerate(DENSITIES):
        if not able[..., i].any():
            found[density] = f"no unit can fire on {100 * density:g} % of the tokens"
            continue
        scores = np.where(able[..., i, None], f1_a[:, i], -1)[:, None]
        said = fires(harvest, best(scores, bars[..., i : i + 1]))
        chance = float((2 * density * rates / (density + rates)).mean())
        found[density] = AtDensity(truth.table(said), int(able[..., i].any(0).sum()), chance)
    return found
