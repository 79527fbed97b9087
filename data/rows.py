"""Which tokens a training step sees: a pure function of (seed, step), whoever asks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from pellucid.data.permutation import permute, round_keys
from pellucid.errors import DataError


@dataclass(frozen=True)
class Batch:
    """Rows of one step; `tokens[:, :-1]` predict `tokens[:, 1:]`.

    `doc_id` is the index in its split of the document each token belongs to.
    `side` holds one label per token for every side channel, -1 where there is none.
    """

    tokens: Int64[Tensor, "batch token"]
    doc_id: Int64[Tensor, "batch token"]
    side: dict[str, Int64[Tensor, "batch token"]]


@dataclass(frozen=True)
class Windows:
    """How one split is cut: `count` windows an epoch, of `context`+1 tokens, at most `slack` in.

    Neighboring windows share one token, so that every token but the first is predicted once.
    The count is the same in every epoch whatever its phase, so that the epoch of a row is a division.
    """

    context: int
    count: int
    slack: int

    @classmethod
    def of(cls, n_tokens: int, context: int, split: str) -> "Windows":
        if n_tokens < context + 1:
            raise DataError(
                f"split {split!r} has {n_tokens} tokens: fewer than the {context + 1} of one row; "
                "use a shorter context or more text"
            )
        count = max(1, (n_tokens - context) // context)
        return cls(context, count, min(context - 1, n_tokens - 1 - count * context))

    def starts(self, seed: int, first: int, batch: int) -> np.ndarray:
        """Where the rows `first` to `first + batch` of the whole run begin (batch,), int64."""
        row = np.arange(first, first + batch, dtype=np.int64)
        epochs, within = row // self.count, row % self.count
        starts = np.empty(batch, dtype=np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            keys = round_keys("rows", seed, epoch)
            starts[here] = permute(within[here], self.count, keys) * self.context
            starts[here] += self._phase(seed, epoch)
        return starts

    def _phase(self, seed: int, epoch: int) -> int:
        """How far in an epoch begins, so that windows are not cut at the same places every time."""
        return int(round_keys("phase", seed, epoch)[0]) % (self.slack + 1)
