"""A place in a tree that is still growing: which text comes here, and what is said of it."""

from functools import cached_property

import numpy as np
from jaxtyping import Float, Integer

from pellucid.eval.rules.drawn import Drawn
from pellucid.eval.rules.literals import Among, Count, Literal
from pellucid.eval.rules.mine import (
    RIDGE,
    Candidate,
    Slope,
    gains,
    mine,
    mine_tokens,
)
from pellucid.eval.rules.rule import Leaf, Node, Ramp, Scale, Split

WORTH = 0.003
"""Share of the unit's squared error that a place must hold to be looked into."""


class Spot:
    """A leaf or a split. Rows that grow the tree and rows that check it stay apart."""

    def __init__(
        self,
        drawn: Drawn,
        rows: Integer[np.ndarray, " row"],
        heirloom: tuple[list[Candidate], list[Slope]] | None = None,
    ) -> None:
        self.drawn, self.rows, self.heirloom = drawn, rows, heirloom
        checked = drawn.checked[rows]
        self.growing, self.checking = rows[~checked], rows[checked]
        self.literal: Literal | None = None
        self.slope: Slope | None = None
        self.yes: Spot | None = None
        self.no: Spot | None = None
        self._mistakes: dict[Slope | None, np.ndarray] = {}

    @cached_property
    def found(self) -> tuple[list[Candidate], list[Slope]]:
        """Questions and ramps for this place; those of an earlier form of it are measured anew."""
        if len(self.growing) < 4:
            return [], []
        if self.heirloom is None:
            return mine(self.drawn, self.growing)
        old = [(self.gain(c.literal), c.literal) for c in self.heirloom[0]]
        fresh = mine_tokens(self.drawn, self.growing)
        return [*(Candidate(*one) for one in old), *fresh], []

    def gain(self, literal: Literal) -> float:
        held = self.holds(literal, self.growing)
        weight = self.drawn.weight[self.growing]
        moved = weight * self.drawn.values[self.growing]
        return float(gains(weight[held].sum(), moved[held].sum(), weight.sum(), moved.sum()))

    def holds(self, literal: Literal, rows: np.ndarray) -> np.ndarray:
        """Where a literal holds; tokens near the place, and counts, are already at hand."""
        if isinstance(literal, Among):
            return np.isin(self.drawn.symbols[literal.offset, rows], literal.tokens)
        if isinstance(literal, Count):
            return self.drawn.count(literal.token, literal.window)[rows] >= literal.least
        return literal.holds(self.drawn.text, self.drawn.places[rows])

    def split(self, literal: Literal) -> None:
        """Become a split with two leaves."""
        held = self.holds(literal, self.rows)
        self.literal = literal
        self.yes = Spot(self.drawn, self.rows[held])
        self.no = Spot(self.drawn, self.rows[~held])

    def widen(self, token: int) -> None:
        """Let a token set have one token more; both sides must be leaves."""
        old, self.literal = (self.yes, self.no), self.literal.widened(token)
        held = self.holds(self.literal, self.rows)
        self.yes = Spot(self.drawn, self.rows[held], old[0].__dict__.get("found"))
        self.no = Spot(self.drawn, self.rows[~held], old[1].__dict__.get("found"))

    def single_out(self, token: int) -> None:
        """Take a token out of a set of several and give it a leaf of its own."""
        others = tuple(one for one in self.literal.tokens if one != token)
        alone, rest = Among(self.literal.offset, (token,)), Among(self.literal.offset, others)
        self.split(alone)
        self.no.split(rest)

    @property
    def is_leaf(self) -> bool:
        return self.literal is None

    def leaves(self) -> list["Spot"]:
        return [self] if self.is_leaf else [*self.yes.leaves(), *self.no.leaves()]

    def splits(self) -> list["Spot"]:
        return [] if self.is_leaf else [self, *self.yes.splits(), *self.no.splits()]

    def errors(self) -> Float[np.ndarray, " row"]:
        """Weighted squared error on the rows that check, of values fitted to those that grow."""
        made = np.zeros(len(self.drawn.places))
        for leaf in self.leaves():
            made[leaf.checking] = leaf._mistaken()
        return made

    def _mistaken(self) -> Float[np.ndarray, " row"]:
        """A leaf's part of the errors; asked again for every step that leaves it as it is."""
        if self.slope not in self._mistakes:
            off = self.drawn.values[self.checking] - self._said(self.growing, self.checking)
            self._mistakes[self.slope] = self.drawn.weight[self.checking] * off**2
        return self._mistakes[self.slope]

    def held(self) -> float:
        """Squared distance from the mean on the rows that grow."""
        off = self.drawn.values[self.growing] - self._said(self.growing, self.growing)
        return float(self.drawn.weight[self.growing] @ off**2)

    def _said(self, fitted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        low, high = self._ends(fitted)
        return low + (high - low) * self._climbed(rows)

    def _climbed(self, rows: np.ndarray) -> np.ndarray:
        """How far up its ramp each row is; 0 where there is none."""
        if self.slope is None or not len(rows):
            return np.zeros(len(rows))
        _, token, window, cap = self.slope
        counted = self.drawn.count(token, window)[rows]
        return np.minimum(counted, cap) / cap

    def _ends(self, rows: np.ndarray) -> tuple[float, float]:
        """Values at the foot and at the top: equal for a plain leaf."""
        weight, values = self.drawn.weight[rows], self.drawn.values[rows]
        mean = float(weight @ values / (weight.sum() + RIDGE))
        if self.slope is None:
            return mean, mean
        climbed = self._climbed(rows)
        middle = weight @ climbed / (weight.sum() + RIDGE)
        rise = weight @ ((climbed - middle) * values)
        steep = float(rise / (weight @ (climbed - middle) ** 2 + 1e-6 * weight.sum()))
        return mean - steep * middle, mean + steep * (1 - middle)

    def node(self, scale: Scale) -> Node:
        """This part of the tree as a rule's, its values fitted to all rows and said in seven bits."""
        if not self.is_leaf:
            return Split(self.literal, self.yes.node(scale), self.no.node(scale))
        low, high = (scale.mean + scale.spread * end for end in self._ends(self.rows))
        if self.slope is not None:
            _, token, window, cap = self.slope
            return Ramp(token, window, cap, scale.nearest(low), scale.nearest(high))
        near = abs(low - scale.rest) <= scale.spread / 8
        return Leaf(scale.rest if near else scale.nearest(low))
