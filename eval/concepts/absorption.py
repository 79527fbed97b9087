"""Absorption and splitting: a unit of a wide label that is silent where a narrower label holds.

Two definitions. The published one (arXiv 2409.14507, as computed by SAEBench) needs a probe and
units' directions. The one of units and labels alone, used for scores, needs neither: it compares how
often the wide label's units are silent while the narrow label's unit fires, where the narrow label
holds and where it does not.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.concepts.picks import f1

RISE = 0.03
"""F1 that a further unit must add to count among a label's main units."""
MOST = 10
"""Main units of a label."""
SHARE = 0.4
"""Of the probe's projection, which absorbing units carry."""
SILENT = 1e-8


class Pair(NamedTuple):
    """Tokens of a wide label by whether a narrow one holds too: their number, by document."""

    both: Float[np.ndarray, " document"]
    fired: Float[np.ndarray, " document"]
    """both hold, and the narrow label's unit fires"""
    absorbed: Float[np.ndarray, " document"]
    """of those, the ones on which all of the wide label's units are silent"""
    wide_only: Float[np.ndarray, " document"]
    missed: Float[np.ndarray, " document"]
    """of those, the ones on which all of the wide label's units are silent"""


def main_units(
    fires: Bool[np.ndarray, "token unit"], holds: Bool[np.ndarray, " token"]
) -> Integer[np.ndarray, " main"]:
    """Units of which any fires where the label holds: added while F1 rises by more than RISE."""
    chosen: list[int] = []
    said, score, held = np.zeros(len(holds), dtype=bool), 0.0, holds.sum()
    while len(chosen) < min(MOST, fires.shape[1]):
        more = fires & ~said[:, None]
        hits = (said & holds).sum() + more[holds].sum(0)
        scores = f1(hits, said.sum() + more.sum(0), held)
        best = int(scores.argmax())
        if chosen and scores[best] - score <= RISE:
            break
        chosen.append(best)
        said, score = said | fires[:, best], scores[best]
    return np.array(chosen)


def pair(
    wide: Bool[np.ndarray, " token"],
    narrow: Bool[np.ndarray, " token"],
    wide_fires: Bool[np.ndarray, " token"],
    narrow_fires: Bool[np.ndarray, " token"],
    document: Integer[np.ndarray, " token"],
) -> Pair:
    """The counts behind `rate`, by document."""
    both, only, n = wide & narrow, wide & ~narrow, int(document.max()) + 1
    fired = both & narrow_fires
    where = (both, fired, fired & ~wide_fires, only, only & ~wide_fires)
    return Pair(*(np.bincount(document, weights=at, minlength=n) for at in where))


def rate(found: Pair) -> float:
    """P(silent ∧ narrow fires | both) - P(silent | wide alone) · P(narrow fires | both).

    How much more often the wide label's units are silent where the narrow one's fires than they are
    silent anyway: 0 for units that miss tokens at random, 1 where the narrow unit has taken all.
    """
    both, fired, absorbed, wide_only, missed = (float(part.sum()) for part in found)
    return (absorbed - fired * missed / max(wide_only, 1)) / max(both, 1)


def fully_absorbed(
    acts: Float[np.ndarray, "token unit"],
    directions: Float[np.ndarray, "unit d_model"],
    probe: Float[np.ndarray, " d_model"],
    projection: Float[np.ndarray, " token"],
    main: Integer[np.ndarray, " main"],
) -> Bool[np.ndarray, " token"]:
    """Full absorption on tokens of the label (arXiv 2409.14507).

    All main units are silent; the unit that writes most along the probe has a cosine to it of at
    least 0.025, and carries at least SHARE of `projection`, the projection of the model's own
    activation on the unit probe, which is above 0.
    """
    cosine, along = _towards(directions, probe)
    silent = (acts[:, main] < SILENT).all(1)
    carried = acts * along
    strongest = carried.argmax(1)
    enough = (projection > 0) & (carried.max(1) >= SHARE * projection)
    return silent & (cosine[strongest] >= 0.025) & enough


def absorbed_fraction(
    acts: Float[np.ndarray, "token unit"],
    directions: Float[np.ndarray, "unit d_model"],
    probe: Float[np.ndarray, " d_model"],
    projection: Float[np.ndarray, " token"],
    main: Integer[np.ndarray, " main"],
    *,
    most: int = 3,
) -> Float[np.ndarray, " token"]:
    """The share of the probe's projection that other units than the main ones have taken over.

    A is the sum of the `most` largest projections above 0 of units with a cosine of at least 0.1
    that are not main. 0 where there is nothing to carry, the main units carry the whole, or A less
    than SHARE of it; 1 where they carry nothing; else min(A, projection - main) over itself + main.
    """
    cosine, along = _towards(directions, probe)
    carried = acts * along
    by_main = carried[:, main].sum(1)
    others = cosine >= 0.1
    others[main] = False
    # A signed unit may write against the probe: it takes nothing over.
    towards = np.where(others, carried, 0).clip(min=0)
    taken = np.sort(towards, axis=1)[:, ::-1][:, :most].sum(1)
    lost = np.minimum(taken, projection - by_main)
    share = lost / np.where(lost + by_main == 0, 1, lost + by_main)
    share = np.where(by_main <= 0, 1.0, share)
    none = (projection <= 0) | (by_main >= projection) | (taken < SHARE * projection)
    return np.where(none, 0.0, share)


def _towards(directions: np.ndarray, probe: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each unit's direction: the cosine to the probe, and the projection on it."""
    along = directions @ (probe / np.linalg.norm(probe))
    return along / np.maximum(np.linalg.norm(directions, axis=1), 1e-12), along
