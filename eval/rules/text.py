"""Text as a rule sees it: the tokens of a model's row up to the current one, counts, and labels."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Integer

from pellucid.eval.stream import Stream

WINDOWS = (2, 4, 8, 16, 32, 64, 128, 2**40)
"""Lengths a count may look back over, the current token included; the last one has no end."""
LEAST = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Thresholds of a count."""
REACH = 8
"""How far back a rule may name the token at an offset."""


@dataclass(frozen=True)
class Text:
    """A stream and where each of its positions can look: what the model saw, and nothing else.

    A model reads rows of `context` tokens end to end. Tokens at an offset are looked up within the
    row; counts start where the document or the row does, whichever is later.
    """

    tokens: Integer[np.ndarray, " token"]
    row: Integer[np.ndarray, " token"]
    """first position of the row of each position"""
    begin: Integer[np.ndarray, " token"]
    """first position that counts of each position include"""
    vocab_size: int
    labels: Bool[np.ndarray, "token label"] | None = None
    """what is known of each token beside the text; a rule may ask one label at a time"""

    @classmethod
    def of(
        cls,
        stream: Stream,
        *,
        context: int,
        vocab_size: int,
        labels: Bool[np.ndarray, "token label"] | None = None,
    ) -> "Text":
        """The text of a stream that is read in rows of `context` tokens."""
        row = np.arange(len(stream.tokens)) // context * context
        begin = np.maximum(row, stream.offsets[stream.document])
        return cls(np.asarray(stream.tokens), row, begin, vocab_size, labels)

    @property
    def n_symbols(self) -> int:
        """Tokens and one symbol more: `nothing` at an offset, `any token` in a count."""
        return self.vocab_size + 1

    @property
    def n_labels(self) -> int:
        return 0 if self.labels is None else self.labels.shape[1]

    def at(
        self, offset: int, places: Integer[np.ndarray, " place"]
    ) -> Integer[np.ndarray, " place"]:
        """The token `offset` before each place, `vocab_size` where the row had not begun."""
        back = places - offset
        found = self.tokens[np.maximum(back, 0)]
        return np.where(back >= self.row[places], found, self.vocab_size)

    def count(
        self, token: int, window: int, places: Integer[np.ndarray, " place"]
    ) -> Integer[np.ndarray, " place"]:
        """How often `token` (any, if `vocab_size`) occurs in the last `window` tokens."""
        first = np.maximum(self.begin[places], places - window + 1)
        if token == self.vocab_size:
            return places - first + 1
        order, bounds = self._occurrences
        where = order[bounds[token] : bounds[token + 1]]
        return np.searchsorted(where, places, side="right") - np.searchsorted(where, first)

    @cached_property
    def _occurrences(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions ordered by token, and where those of each token begin."""
        counts = np.bincount(self.tokens, minlength=self.vocab_size)
        return np.argsort(self.tokens, kind="stable"), np.concatenate([[0], np.cumsum(counts)])
