"""Labels of every character of one text, packed as bits, and their projection onto tokens."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt64

WORD = 64


class Marks:
    """What holds after each character of a text: bit l of the words of a row is label l."""

    def __init__(self, size: int, n_labels: int) -> None:
        self.n_labels = n_labels
        self.bits = np.zeros((size, -(-n_labels // WORD)), dtype=np.uint64)
        self.start = np.zeros(self.bits.shape[1], dtype=np.uint64)
        """what holds before the first character"""
        self.valued = np.ones(n_labels, bool)
        """labels that this text has values for"""

    @classmethod
    def of(
        cls, columns: Mapping[str, Bool[np.ndarray, " character"]], names: Sequence[str], size: int
    ) -> "Marks":
        """Marks of given columns; a label without a column has no values in this text."""
        marks = cls(size, len(names))
        for at, name in enumerate(names):
            if name in columns:
                marks.put(at, columns[name])
            else:
                marks.valued[at] = False
        return marks

    def put(self, label: int, holds: Bool[np.ndarray, " character"]) -> None:
        """Say after which characters a label holds."""
        word, bit = divmod(label, WORD)
        self.bits[:, word] |= holds.astype(np.uint64) << np.uint64(bit)

    def put_start(self, label: int) -> None:
        """Say that a label holds before the first character."""
        word, bit = divmod(label, WORD)
        self.start[word] |= np.uint64(1) << np.uint64(bit)

    def within(self, place: slice) -> "Marks":
        """The marks of a part of the text."""
        part = Marks(0, self.n_labels)
        part.bits, part.valued = self.bits[place], self.valued
        part.start = self.bits[place.start - 1] if place.start else self.start
        return part

    def column(self, label: int) -> Bool[np.ndarray, " character"]:
        """After which characters a label holds."""
        return _unpacked(self.bits, label)


class Projected(NamedTuple):
    """Marks of the tokens of one text."""

    after: Bool[np.ndarray, "token label"]
    before: Bool[np.ndarray, "token label"]
    mixed: Bool[np.ndarray, "token label"]
    valued: Bool[np.ndarray, "token label"]


def project(text: str, sizes: Integer[np.ndarray, " token"], marks: Marks) -> Projected:
    """What holds before and after each token of a text whose tokens have these sizes in bytes.

    A token that ends within a character has no value after it: half a character has no state.
    """
    ends = np.cumsum(sizes)
    starts = ends - sizes
    first, _ = characters(text, starts)
    last, whole = characters(text, ends)
    states = np.concatenate([marks.start[None], marks.bits])
    after, before = states[last], states[first]
    twice = _changes_twice(states, first, last)
    unpack = [
        np.stack([_unpacked(b, at) for at in range(marks.n_labels)], 1)
        for b in (after, before, twice)
    ]
    return Projected(*unpack, whole[:, None] & marks.valued)


def characters(
    text: str, places: Integer[np.ndarray, " place"]
) -> tuple[Int64[np.ndarray, " place"], Bool[np.ndarray, " place"]]:
    """Characters that end at or before places in UTF-8 bytes, and whether one ends just there."""
    places = np.asarray(places, dtype=np.int64)
    if text.isascii():
        return places, np.ones(len(places), bool)
    raw = np.frombuffer(text.encode(), dtype=np.uint8)
    begins = (raw & 0xC0) != 0x80
    # A place is between bytes: a character ends there where the next byte begins one.
    boundary = np.append(begins, True)
    count = np.concatenate([[0], np.cumsum(begins)])
    return count[places] - ~boundary[places], boundary[places]


def _changes_twice(
    states: UInt64[np.ndarray, "place word"],
    first: Int64[np.ndarray, " token"],
    last: Int64[np.ndarray, " token"],
) -> UInt64[np.ndarray, "token word"]:
    once = np.zeros((len(first), states.shape[1]), np.uint64)
    twice = once.copy()
    at = np.flatnonzero(last > first)
    step = 0
    while len(at):
        change = states[first[at] + step] ^ states[first[at] + step + 1]
        twice[at] |= once[at] & change
        once[at] |= change
        step += 1
        at = at[first[at] + step < last[at]]
    return twice


def _unpacked(bits: UInt64[np.ndarray, "row word"], label: int) -> Bool[np.ndarray, " row"]:
    word, bit = divmod(label, WORD)
    return (bits[:, word] >> np.uint64(bit)) & np.uint64(1) == 1
