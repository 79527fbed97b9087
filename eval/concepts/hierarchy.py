"""Labels that imply others, and how the units of both behave: absorption and splitting of a site."""

from typing import NamedTuple

import numpy as np

from pellucid.eval.concepts.absorption import Pair, main_units, pair
from pellucid.eval.concepts.compared import LEADING, compared
from pellucid.eval.concepts.gather import columns_at, spaced
from pellucid.eval.concepts.remembered import remembered
from pellucid.eval.concepts.truth import FEWEST, Truth
from pellucid.eval.harvest import Harvest

IMPLIED = 0.99
"""Share of a narrow label's tokens on which the wide one holds too."""
WIDER = 1.5
"""How much more frequent the wide one is."""
CANDIDATES = 16
"""Units among which the main units of a label are looked for."""
TOKENS = 32768
"""Of each half, evenly spaced."""


class Behaviour(NamedTuple):
    """What was found for each pair of labels, and for each label."""

    pairs: dict[tuple[str, str], Pair]
    """by (wide, narrow): those whose wide label has a main unit besides that of the narrow one"""
    main: dict[str, int]
    """number of main units of each label"""


def implied(truth: Truth) -> list[tuple[int, int]]:
    """(wide, narrow) labels, by what holds on half A: in brackets, in round brackets, …"""
    holds = truth.holds[truth.a].astype(np.float32)
    both, held = holds.T @ holds, holds.sum(0)
    wider = (both >= IMPLIED * held) & (held[:, None] >= WIDER * held)
    return [(int(wide), int(narrow)) for wide, narrow in zip(*np.nonzero(wider))]


@remembered
def behaviour(harvest: Harvest, truth: Truth) -> Behaviour:
    """Choose main units on half A, and count absorption on half B."""
    leading = compared(harvest, truth).leading
    few = min(CANDIDATES, LEADING, len(leading.unit))
    a, b = spaced(truth.a, TOKENS), spaced(truth.b, TOKENS)
    units, place = np.unique(leading.unit[:few], return_inverse=True)
    place = place.reshape(few, -1)
    values = {half: columns_at(harvest, units, at) for half, at in (("a", a), ("b", b))}

    def fires(half: str, label: int) -> np.ndarray:
        sign, bar = leading.sign[:few, label], leading.threshold[:few, label]
        return values[half][:, place[:, label]] * sign > bar

    labels = range(len(truth.names))
    main = [main_units(fires("a", i), truth.holds[a, i]) for i in labels]
    pairs, document = {}, truth.document[b]
    for wide, narrow in implied(truth):
        own = place[main[narrow][0], narrow]
        # What speaks for the narrow label is no unit of the wide one, however much it adds to it.
        others = [rank for rank in main[wide] if place[rank, wide] != own]
        if others and _enough(truth, b, wide, narrow):
            pairs[truth.names[wide], truth.names[narrow]] = pair(
                truth.holds[b, wide],
                truth.holds[b, narrow],
                fires("b", wide)[:, others].any(1),
                fires("b", narrow)[:, main[narrow][0]],
                document,
            )
    return Behaviour(pairs, {truth.names[i]: len(main[i]) for i in labels})


def _enough(truth: Truth, b: np.ndarray, wide: int, narrow: int) -> bool:
    both = truth.holds[b, wide] & truth.holds[b, narrow]
    only = truth.holds[b, wide] & ~truth.holds[b, narrow]
    return min(both.sum(), only.sum()) >= FEWEST
