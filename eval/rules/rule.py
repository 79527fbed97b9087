"""A rule: a small tree of questions whose leaves predict an activation, with its length in bits.

The tree is written in preorder. Every node begins with a prefix-free code for its type:

    rest leaf 00 · value leaf 01 · token set 10 · pair, count, label, ramp leaf 11xx

so a rule's length is exact: the sum of its nodes' codes, its literals' (see `literals.py`) and seven
bits for each value. What rest means and the scale of values are facts of the unit, not of the rule:
`Scale`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from pellucid.eval.rules.literals import COUNT_BITS, Among, Literal, back, symbol_bits
from pellucid.eval.rules.text import Text

SHORT, LONG = 2.0, 4.0
"""Bits of the two lengths of type code: three short and four long ones fill the code exactly."""
VALUE_BITS = 7.0
STEPS = 63
"""Magnitudes of either sign; with the mean and silence they make 128 values."""


@dataclass(frozen=True)
class Scale:
    """What is known of a unit before any rule: its mean, its spread, and its value at rest.

    Values are the mean, silence, or the mean ± spread · 2**(k/6 - 2) for k = 0 … 62: from a quarter
    of the spread to 320 times, in steps of a sixth of an octave.
    """

    mean: float
    spread: float
    rest: float
    """0 for a unit that is exactly 0 on most tokens, else the mean"""

    @property
    def values(self) -> Float[np.ndarray, " code"]:
        steps = self.spread * 2.0 ** (np.arange(STEPS) / 6 - 2)
        return np.concatenate([[self.mean, 0.0], self.mean + steps, self.mean - steps])

    def nearest(self, value: float) -> float:
        """The value that seven bits can say."""
        said = self.values
        return float(said[np.abs(said - value).argmin()])


class Leaf(NamedTuple):
    """One activation for all places that come here."""

    value: float

    def values(self, text: Text, places: np.ndarray) -> np.ndarray:
        return np.full(len(places), self.value)


class Ramp(NamedTuple):
    """Linear in a count, from `low` at none to `high` at `cap` and above."""

    token: int
    window: int
    cap: int
    low: float
    high: float

    def values(self, text: Text, places: np.ndarray) -> np.ndarray:
        counted = np.minimum(text.count(self.token, self.window, places), self.cap)
        return self.low + (self.high - self.low) * counted / self.cap


class Split(NamedTuple):
    """Go one way where a literal holds, the other where it does not."""

    literal: Literal
    yes: "Node"
    no: "Node"


Node = Leaf | Ramp | Split


@dataclass(frozen=True)
class Rule:
    """Predicts one unit's activation from the text."""

    root: Node
    scale: Scale

    def predict(
        self, text: Text, places: Integer[np.ndarray, " place"]
    ) -> Float[np.ndarray, " place"]:
        """Predicted activations, in the unit's own measure."""
        made = np.empty(len(places))
        waiting = [(self.root, np.arange(len(places)))]
        while waiting:
            node, here = waiting.pop()
            if isinstance(node, Split):
                held = node.literal.holds(text, places[here])
                waiting += [(node.yes, here[held]), (node.no, here[~held])]
            else:
                made[here] = node.values(text, places[here])
        return made

    def bits(self, text: Text) -> float:
        """Description length; `text` gives the sizes of the alphabet and of the label list."""
        return length(self.root, self.scale, text)

    def words(self, names: Callable[[int], str] = str) -> str:
        """The rule in words; `names` spells a token."""
        return _words(self.root, names)


def length(node: Node, scale: Scale, text: Text) -> float:
    """Bits of a tree."""
    if isinstance(node, Leaf):
        return SHORT if node.value == scale.rest else SHORT + VALUE_BITS
    if isinstance(node, Ramp):
        return LONG + COUNT_BITS + symbol_bits(text) + 2 * VALUE_BITS
    kind = SHORT if isinstance(node.literal, Among) else LONG
    below = length(node.yes, scale, text) + length(node.no, scale, text)
    return kind + node.literal.bits(text) + below


def _words(node: Node, names: Callable[[int], str]) -> str:
    if isinstance(node, Leaf):
        return f"{node.value:.3g}"
    if isinstance(node, Ramp):
        counted = f"{names(node.token)} {back(node.window)}"
        return f"{node.low:.3g} … {node.high:.3g} over 0 … {node.cap} × {counted}"
    yes, no = _words(node.yes, names), _words(node.no, names)
    return f"({node.literal.words(names)} ? {yes} : {no})"
