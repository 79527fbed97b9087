"""Do runs that differ in their seed alone find the same units?"""

import numpy as np

from pellucid.eval.concepts.matching import COMPARED, living, seed_consistency
from pellucid.eval.controls import Found, System, under_controls
from pellucid.eval.halves import halves
from pellucid.eval.score import NoValue, Score
from pellucid.eval.workbench import Workbench

PLACES = 32_768
"""Tokens of each half that units are correlated on; evenly spread where there are more."""


def seed_consistency_scores(bench: Workbench) -> list[Score]:
    """Mean |correlation| of units with the best-matching units of runs of other seeds, by site.

    Untrained twins are matched with untrained twins, every other control with the trained runs:
    what another basis of the same layer, or the architecture alone, would have in common with them.
    No control enters with more units than the run, because pairs compete for the same partners.
    """

    def measure(system: System) -> Found:
        if isinstance(bench.siblings, str):
            raise NoValue(bench.siblings)
        in_a = halves(bench.stream, bench.seed)
        places = [_spread(np.flatnonzero(half)) for half in (in_a, ~in_a)]
        others = [s.twin if system is bench.twin else s.reader for s in bench.siblings]
        return {
            name: seed_consistency(
                system.harvest[name],
                [other.harvest[name] for other in others],
                *places,
                seed=bench.seed,
                most=_drawn(bench.reader, name, places[0]),
            )
            for name in system.sites()
            if name in bench.reader.sites()
        }

    return under_controls(bench, "seed_consistency", measure, better="higher")


def _drawn(run: System, name: str, places: np.ndarray) -> int:
    """How many units of a site of the run are looked for."""
    return min(COMPARED, len(living(run.harvest[name], places)))


def _spread(places: np.ndarray) -> np.ndarray:
    if len(places) <= PLACES:
        return places
    return places[np.linspace(0, len(places) - 1, PLACES).astype(np.int64)]
