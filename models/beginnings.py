"""Rows that begin alike: what a model does with a common beginning is computed once for all.

What a causal model does with a token depends on nothing but the tokens up to it. Prompts of a task
come in pairs that differ in a word and are made by few templates, so that of their tokens half are
repetitions. All layers but the mixing of attention look at one token at a time: they are given each
beginning once, and no padding.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Beginnings:
    """The tokens of some rows, one for all that have the same tokens before them in their rows."""

    tokens: Int[Tensor, " some"]
    positions: Int[Tensor, " some"]
    """the column of each"""
    ends: Int[Tensor, " row"]
    """which of them is the last of each row"""
    first: Int[Tensor, " some"]
    """a place of each, places being counted row by row"""
    of: Int[Tensor, " row_token"]
    """which of them stands at each place; after a row's end any"""

    @property
    def rows(self) -> int:
        """Rows that they are the beginnings of."""
        return len(self.ends)

    @property
    def width(self) -> int:
        """Columns of the rows."""
        return len(self.of) // self.rows

    def positions_of(self, tokens: Int[Tensor, "copy_some 1"]) -> Int[Tensor, "copy_some 1"]:
        """The positions of the tokens of a pass, which are the beginnings' once or several times."""
        return self.positions.repeat(len(tokens) // len(self.positions))[:, None]

    def spread(
        self, x: Float[Tensor, "copy_some head 1 d"]
    ) -> Float[Tensor, "copy_row head token d"]:
        """What attention mixes, at all places of the rows."""
        x = rearrange(x, "(copy some) head 1 d -> copy some head d", some=len(self.first))
        # The slope of a selection is summed in no fixed order on a GPU, and that of an index slowly
        # on a CPU.
        x = x.index_select(1, self.of) if x.device.type == "cpu" else x[:, self.of]
        return rearrange(x, "copy (row token) head d -> (copy row) head token d", row=self.rows)

    def gathered(self, x: Float[Tensor, "copy_row token d"]) -> Float[Tensor, "copy_some 1 d"]:
        """What has been mixed, once for each beginning."""
        x = rearrange(x, "(copy row) token d -> copy (row token) d", row=self.rows)
        return rearrange(x.index_select(1, self.first), "copy some d -> (copy some) 1 d")

    @contextmanager
    def mixed_by(self, attentions: Iterable[nn.Module]) -> Iterator[None]:
        """Attention within spreads what it reads, and gathers what it has mixed."""
        attentions = list(attentions)
        for attention in attentions:
            attention.beginnings = self
        try:
            yield
        finally:
            for attention in attentions:
                attention.beginnings = None


def beginnings_of(tokens: Int[Tensor, "row token"], last: Int[Tensor, " row"]) -> Beginnings:
    """The beginnings of rows that end at `last`; the first column of a row is its position 0."""
    rows, width = tokens.shape
    numbers, before = [], torch.zeros_like(tokens[:, 0])
    for t, column in enumerate(tokens.T):
        before = torch.stack([before, column]).unique(dim=1, return_inverse=True)[1]
        numbers.append(before + t * rows)
    line = torch.stack(numbers, dim=1).flatten()
    columns = torch.arange(width, device=tokens.device)
    real = (columns <= last[:, None]).flatten().nonzero()[:, 0]
    own, which = line[real].unique(return_inverse=True)
    first = torch.full_like(own, len(line)).scatter_reduce(0, which, real, "amin")
    # A place after the end takes what is there anyway: no row looks back at it.
    of = torch.zeros_like(line).index_put((real,), which)
    ends = of[torch.arange(rows, device=tokens.device) * width + last]
    return Beginnings(tokens.flatten()[first], first % width, ends, first, of)
