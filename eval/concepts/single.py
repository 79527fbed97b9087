"""FMS of a site: whether one unit, and no other, tells each label."""

import numpy as np
from jaxtyping import Float

from pellucid.eval.concepts.compared import compared
from pellucid.eval.concepts.fms import parts
from pellucid.eval.concepts.gather import columns_at, spaced
from pellucid.eval.concepts.remembered import remembered
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest

TOKENS = 2048
"""Of each half, evenly spaced among those with the label and those without, half of each."""
WITHOUT = (1, 5)
"""Units taken away for the local part."""


@remembered
def site_fms(harvest: Harvest, truth: Truth) -> dict[int, Float[np.ndarray, " label"]]:
    """FMS of each label when so many units are taken away.

    Trees see the units that split the label best one by one, of all that the site has.
    """
    found = {p: np.empty(len(truth.names)) for p in WITHOUT}
    splitters = compared(harvest, truth).splitters
    chosen = [
        [_balanced(truth, at, i) for at in (truth.a, truth.b)] for i in range(len(truth.names))
    ]
    at = np.unique(np.concatenate([part for pair in chosen for part in pair]))
    units, place = np.unique(splitters, return_inverse=True)
    values, place = columns_at(harvest, units, at), place.reshape(splitters.shape)
    for label, halves in enumerate(chosen):
        x = [values[np.searchsorted(at, half)][:, place[:, label]] for half in halves]
        y = [truth.holds[half, label] for half in halves]
        for p, scored in parts(x[0], y[0], x[1], y[1], without=WITHOUT).items():
            found[p][label] = scored.score
    return found


def _balanced(truth: Truth, at: np.ndarray, label: int) -> np.ndarray:
    held = truth.holds[at, label]
    sides = [spaced(at[side], TOKENS // 2) for side in (held, ~held)]
    return np.sort(np.concatenate(sides))
