"""What a rule may ask of a place in the text, and what each question costs in bits.

Offsets cost 1 bit for the current token and 4 for the eight before it; a set costs its size in
unary and log2 of the alphabet for each token. Absence needs no literal of its own: it is the other
branch of a count.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Integer

from pellucid.eval.rules.text import LEAST, WINDOWS, Text

COUNT_BITS = math.log2(len(WINDOWS)) + math.log2(len(LEAST))
LARGEST_SET = 16


def offset_bits(offset: int) -> float:
    """One bit says whether it is the current token; three more name one of eight before it."""
    return 1.0 if offset == 0 else 4.0


def symbol_bits(text: Text) -> float:
    """Bits that name a token, or the one symbol beside all tokens."""
    return math.log2(text.n_symbols)


@dataclass(frozen=True)
class Among:
    """The token at an offset is one of a few: an n-gram's part, or a skip-gram's."""

    offset: int
    tokens: tuple[int, ...]

    def holds(
        self, text: Text, places: Integer[np.ndarray, " place"]
    ) -> Bool[np.ndarray, " place"]:
        found = text.at(self.offset, places)
        held = found == self.tokens[0]
        for token in self.tokens[1:]:
            held = held | (found == token)
        return held

    def bits(self, text: Text) -> float:
        return offset_bits(self.offset) + len(self.tokens) * (1 + symbol_bits(text))

    def widened(self, token: int) -> "Among":
        """The same with one token more."""
        return replace(self, tokens=(*self.tokens, token))

    def words(self, names) -> str:
        where = "token" if self.offset == 0 else f"token {self.offset} back"
        return f"{where} in {{{', '.join(names(t) for t in self.tokens)}}}"


@dataclass(frozen=True)
class Pair:
    """Two tokens at two offsets at once: a bigram or skip-bigram."""

    offsets: tuple[int, int]
    tokens: tuple[int, int]

    def holds(
        self, text: Text, places: Integer[np.ndarray, " place"]
    ) -> Bool[np.ndarray, " place"]:
        first, second = (text.at(offset, places) for offset in self.offsets)
        return (first == self.tokens[0]) & (second == self.tokens[1])

    def bits(self, text: Text) -> float:
        return sum(map(offset_bits, self.offsets)) + 2 * symbol_bits(text)

    def words(self, names) -> str:
        said = zip(self.tokens, self.offsets, strict=True)
        return " and ".join(f"{names(token)} {offset} back" for token, offset in said)


@dataclass(frozen=True)
class Count:
    """A token occurs at least so often in the last `window` tokens since the document began."""

    token: int
    window: int
    least: int

    def holds(
        self, text: Text, places: Integer[np.ndarray, " place"]
    ) -> Bool[np.ndarray, " place"]:
        return text.count(self.token, self.window, places) >= self.least

    def bits(self, text: Text) -> float:
        return COUNT_BITS + symbol_bits(text)

    def words(self, names) -> str:
        return f"at least {self.least} × {names(self.token)} {back(self.window)}"


@dataclass(frozen=True)
class Label:
    """A label of the token, or of the parser's state at it."""

    column: int

    def holds(
        self, text: Text, places: Integer[np.ndarray, " place"]
    ) -> Bool[np.ndarray, " place"]:
        return text.labels[places, self.column]

    def bits(self, text: Text) -> float:
        return math.log2(text.n_labels)

    def words(self, names) -> str:
        return f"label {self.column}"


Literal = Among | Pair | Count | Label


def back(window: int) -> str:
    """How far a count looks, in words."""
    return "since the start" if window == WINDOWS[-1] else f"in the last {window}"
