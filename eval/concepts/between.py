"""Label scores between what needs no units, and what a probe of all channels has at that depth."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from pellucid.eval import bootstrap
from pellucid.eval.bootstrap import Interval
from pellucid.eval.concepts.by_label import ByLabel
from pellucid.eval.concepts.metrics import OVER_LABELS, ROOM, Found, System, by_site
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue

Labels = Float[np.ndarray, " label"]


def share(values: Labels, low: Labels, high: Labels) -> float:
    """Σ (value - low) / Σ (high - low), over labels with room between the two.

    Raises NoValue where no label has any.
    """
    room = _room(values, low, high)
    return float((values - low)[room].sum() / (high - low)[room].sum())


def normalised(
    system: System,
    truth: Truth,
    scored: ByLabel,
    low: Labels,
    high: Mapping[str, Labels],
    *,
    seed: int,
) -> Found:
    """The same of every site, with its interval by drawing labels again.

    Floor and ceiling are the run's for all controls: a twin's own probe would flatter the twin.
    """
    scored.find.ahead(system.harvest.values(), truth)

    def measure_at(name: str) -> Callable[[Harvest], Interval]:
        def measure(kept: Harvest) -> Interval:
            ours, top = scored(kept, truth), high[name]
            room = _room(ours, low, top)
            drawn = (ours - low)[room], (top - low)[room]
            found = bootstrap.ratio(*drawn, seed=seed, what="labels")
            left = f"{room.sum()} of {len(room)} labels have room between floor and ceiling"
            return found._replace(flags=(*found.flags, OVER_LABELS, left))

        return measure

    found: Found = {}
    for name in system.harvest:
        if name in high:
            found |= by_site(system, measure_at(name), only={name: None})
    return found


def _room(values: Labels, low: Labels, high: Labels) -> np.ndarray:
    # A label without a number on one side is not more than ROOM apart.
    with np.errstate(invalid="ignore"):
        room = (high - low >= ROOM) & np.isfinite(values)
    if not room.any():
        raise NoValue("the probe is above the floor for no label")
    return room
