"""What the units of a run are compared with: labels on a stream, cut into the halves A and B."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
from jaxtyping import Bool, Integer

from pellucid.eval.halves import rearranged
from pellucid.eval.score import NoValue

Counts = Integer[np.ndarray, "document label 3"]
"""Hits, predictions and tokens on which a label holds, by document."""

FEWEST = 20
"""Tokens of each half on which a label must hold, and on which it must not, to be scored."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Labels of a stream's tokens. Choices are made on half A and scored on half B."""

    names: tuple[str, ...]
    holds: Bool[np.ndarray, "token label"]
    known: Bool[np.ndarray, " token"]
    """tokens on which every label has a value; the others are left out"""
    is_a: Bool[np.ndarray, " token"]
    document: Integer[np.ndarray, " token"]
    """ascending"""

    @cached_property
    def half(self) -> Integer[np.ndarray, " token"]:
        """0 on half A, 1 on half B, -1 where the labels are not known."""
        return np.where(self.known, np.where(self.is_a, 0, 1), -1).astype(np.int8)

    @cached_property
    def a(self) -> Integer[np.ndarray, " place"]:
        """The tokens of half A whose labels are known."""
        return np.flatnonzero(self.half == 0)

    @cached_property
    def b(self) -> Integer[np.ndarray, " place"]:
        """The tokens of half B whose labels are known."""
        return np.flatnonzero(self.half == 1)

    def scorable(self) -> "Truth":
        """Only those labels that hold, and fail to, often enough in both halves.

        Raises NoValue where none does.
        """
        held = np.stack([self.holds[at].sum(0) for at in (self.a, self.b)])
        sizes = np.array([[len(self.a)], [len(self.b)]])
        kept = ((held >= FEWEST) & (sizes - held >= FEWEST)).all(0)
        if not kept.any():
            raise NoValue(
                f"none of {len(kept)} labels holds on {FEWEST} tokens of each half, and fails to"
            )
        return self.only(np.flatnonzero(kept))

    def only(self, labels: Integer[np.ndarray, " kept"]) -> "Truth":
        """The same for some of the labels."""
        names = tuple(self.names[i] for i in labels)
        return Truth(names, self.holds[:, labels], self.known, self.is_a, self.document)

    def permuted(self, seed: int) -> "Truth":
        """The labels of whole documents handed to others of the same half: a permutation null.

        Within a document the order stays, and so does the autocorrelation, which a shuffle of
        tokens would destroy. Documents are of different lengths: each half's labels are laid out
        document after document in a drawn order, and begun anew where the tokens are.
        """
        rng, holds = np.random.default_rng(seed), self.holds.copy()
        for at in (self.a, self.b):
            holds[at] = self.holds[at[rearranged(self.document[at], rng)]]
        return Truth(self.names, holds, self.known, self.is_a, self.document)

    @cached_property
    def columns(self) -> Bool[np.ndarray, "token column"]:
        """What units are counted against: column 0 always holds, then the labels."""
        return np.concatenate([np.ones((len(self.holds), 1), dtype=bool), self.holds], axis=1)

    @cached_property
    def held_a(self) -> Integer[np.ndarray, " label"]:
        """Tokens of half A on which each label holds."""
        return self.holds[self.a].sum(0)

    @cached_property
    def fingerprint(self) -> str:
        """Tells truths apart; equal labels and halves have equal ones."""
        parts = (np.packbits(self.holds), self.half, repr(self.names).encode())
        return blake2b(b"".join(bytes(part) for part in parts)).hexdigest()

    def table(self, predicted: Bool[np.ndarray, "token label"]) -> Counts:
        """Of each document of half B, by label: hits, predictions, and tokens on which it holds."""
        starts = np.flatnonzero(np.diff(self.document[self.b], prepend=-1))
        said, held = predicted[self.b], self.holds[self.b]
        parts = [np.add.reduceat(p, starts, axis=0, dtype=int) for p in (said & held, said, held)]
        return np.stack(parts, axis=-1)
