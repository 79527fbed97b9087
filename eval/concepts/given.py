"""The labels that a workbench's units are compared with, and what needs no units to tell them."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pellucid.eval.concepts.floors import Floor, always_on, best_of, chances, of_last_tokens
from pellucid.eval.concepts.levels import What, of_floors
from pellucid.eval.concepts.probe import Ceiling, ceilings, inputs_of
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.families import FAMILY
from pellucid.eval.halves import halves
from pellucid.eval.labels import LabelTable
from pellucid.eval.labels.table import NoLabel
from pellucid.eval.reader import Reader
from pellucid.eval.score import NoValue
from pellucid.eval.stream import Stream
from pellucid.eval.workbench import Workbench

AMBIGUOUS = (0.1, 0.9)
"""P(label | current token) between which the token does not decide."""
FEW = 2
"""Permutations of the labels by which scores are taken again that a pass each would cost."""


class Floors(NamedTuple):
    """What the tokens alone tell."""

    always_on: Floor
    token_only: Floor
    five_gram: Floor
    best: Floor
    """of the three, the one that is best on half A, by label"""


@dataclass(eq=False)
class Given:
    """A run's labels, and what tells them without its units; made when first asked for."""

    reader: Reader
    truth: Truth
    seed: int
    _levels: dict[str, dict[str, Float[np.ndarray, " label"]]] = field(default_factory=dict)

    @cached_property
    def floors(self) -> Floors:
        return floors_of(self.truth, self.reader.stream)

    @cached_property
    def ceilings(self) -> dict[str, Ceiling]:
        return ceilings(inputs_of(self.reader), self.truth, seed=self.seed)

    def levels(self, what: What) -> dict[str, Float[np.ndarray, " label"]]:
        """What each floor, by name, has on the scale of a score, by label."""
        if what not in self._levels:
            floors = {k: floor for k, floor in self.floors._asdict().items() if k != "best"}
            self._levels[what] = of_floors(what, self.truth, floors)
        return self._levels[what]

    def tops(self, what: What) -> dict[str, Float[np.ndarray, " label"]]:
        """The same of the probe of each site. Raises NoValue where none can be fitted."""
        if what == "fms":
            return {site: top.balanced**2 for site, top in self.ceilings.items()}
        return {site: getattr(top, what) for site, top in self.ceilings.items()}

    @cached_property
    def permuted(self) -> list[Truth]:
        """The labels handed to other documents of the same half, in a few ways."""
        seeds = np.random.SeedSequence(self.seed).generate_state(FEW).tolist()
        return [self.truth.permuted(one) for one in seeds]

    @cached_property
    def is_open(self) -> Bool[np.ndarray, "token label"]:
        return ambiguous(self.truth, self.reader.stream)


def given(bench: Workbench) -> Given:
    """What a workbench's metrics share. Raises NoValue without labels."""
    share = lambda reader: Given(reader, truth_of(bench), bench.seed)
    return bench.once("given", bench.reader, share)


def truth_of(bench: Workbench) -> Truth:
    """Labels that hold, or do not, after each token, decided by the text up to it.

    Functions of the token alone, or of where it stands, are left out. Raises NoValue without labels
    of the family that goes with the split.
    """
    table, family = bench.labels, FAMILY[bench.split]
    if isinstance(table, str):
        raise NoValue(table)
    try:
        chosen = table.select(family=family, prefix=True, controls=False)
    except NoLabel:
        raise NoValue(
            f"none of {len(table.labels)} labels is of the family {family!r}, which goes with the "
            f"split {bench.split!r}, and decided by the text up to a token"
        ) from None
    return truth_from(chosen, bench.stream, seed=bench.seed)


def truth_from(table: LabelTable, stream: Stream, *, seed: int) -> Truth:
    """The states after each token, cut into halves; only labels frequent enough to be scored."""
    known = np.all([table.known_of(name) for name in table.names], axis=0)
    in_a = halves(stream, seed)
    return Truth(table.names, table.after, known, in_a, stream.document).scorable()


def floors_of(truth: Truth, stream: Stream) -> Floors:
    """Fit the floors on half A."""
    every = (
        always_on(truth),
        of_last_tokens(truth, stream.tokens, order=1),
        of_last_tokens(truth, stream.tokens, order=5),
    )
    return Floors(*every, best_of(*every))


def ambiguous(truth: Truth, stream: Stream) -> Bool[np.ndarray, "token label"]:
    """Whether the current token leaves a label open, by the counts of half A."""
    chance = chances(truth, stream.tokens, order=1)
    return (chance >= AMBIGUOUS[0]) & (chance <= AMBIGUOUS[1])
