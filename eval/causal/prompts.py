"""Prompts of a task's pairs, read with and without units taken from other prompts."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pellucid.eval.causal.chosen import Unit, by_site
from pellucid.eval.causal.passes import as_source, values_of
from pellucid.eval.tasks import TaskBatch
from pellucid.models import Edit, intervene, patch

Place = Literal["last", "all"]
"""Where values are put: at the last token of a prompt alone, or at all of them."""


@dataclass(frozen=True)
class Prompts:
    """Prompts A of all pairs, then prompts B; row i and row (i + n) mod 2n are a pair."""

    tokens: Int[Tensor, "row token"]
    last: Int[Tensor, " row"]
    own: Int[Tensor, " row"]
    """the token that is right after the prompt"""
    other: Int[Tensor, " row"]
    """the token that is right after its partner"""

    @classmethod
    def of(cls, batch: TaskBatch) -> "Prompts":
        """ValueError for a task one of whose answers is open."""
        if batch.one_vs_rest:
            raise ValueError(f"task {batch.name!r} has no answer B: none to flip to")
        a, b = batch.answer_a, batch.answer_b
        return cls(
            torch.cat([batch.tokens_a, batch.tokens_b]),
            torch.cat([batch.last_a, batch.last_b]),
            torch.cat([a, b]),
            torch.cat([b, a]),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def on(self, device: torch.device) -> "Prompts":
        """The same on another device."""
        return Prompts(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def halves(self) -> tuple["Prompts", "Prompts"]:
        """The first half of the pairs, and the others."""
        n = len(self) // 2
        rows = torch.arange(n)
        first, second = rows[: n // 2], rows[n // 2 :]
        return self._pairs(torch.cat([first, first + n])), self._pairs(
            torch.cat([second, second + n])
        )

    def _pairs(self, rows: Tensor) -> "Prompts":
        return Prompts(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def partner(self) -> Int[Tensor, " row"]:
        """The row that a row's other value comes from."""
        return torch.arange(len(self)).roll(len(self) // 2)

    @property
    def same_side(self) -> Int[Tensor, " row"]:
        """A row of another pair whose value is the same."""
        n = len(self) // 2
        rows = torch.arange(n).roll(1)
        return torch.cat([rows, rows + n])


def margins(logits: Float[Tensor, "row token vocab"], prompts: Prompts) -> Float[Tensor, " row"]:
    """By how much each prompt's own answer is likelier than its partner's, in nats."""
    rows = torch.arange(len(prompts), device=logits.device)
    end = logits[rows, prompts.last]
    return end[rows, prompts.own] - end[rows, prompts.other]


@dataclass(frozen=True)
class Swap:
    """Units of each row take the values that they have in another one.

    Rows are laid upon each other by their last tokens. `shift` tokens further left is where values
    are put: 0 is where they belong.
    """

    units: tuple[Unit, ...]
    place: Place
    source: Int[Tensor, " row"]
    shift: int = 0

    def of(self, **changed) -> "Swap":
        """The same with some of it changed."""
        return replace(self, **changed)


class Swapper:
    """Reads prompts with units swapped; what the units do in the prompts as they are is read once."""

    def __init__(self, model: nn.Module, prompts: Prompts, units: Iterable[Unit]) -> None:
        self.model, self.prompts, self.units = model, prompts, by_site(units)
        self.values = values_of(model, prompts.tokens, self.units)

    @torch.no_grad()
    def __call__(self, swap: Swap) -> Float[Tensor, " row"]:
        """Margins of every prompt under the swap."""
        with intervene(self.model, self.edits(swap)):
            return margins(self.model(self.prompts.tokens).logits.float(), self.prompts)

    def edits(self, swap: Swap) -> dict[str, list[Edit]]:
        """The edits that put the source's values into the units of every row."""
        last, source = self.prompts.last, swap.source.to(self.prompts.last.device)
        columns = torch.arange(self.prompts.tokens.shape[1], device=source.device)[None]
        behind = (last[source] - last)[:, None] + swap.shift
        # Before the source's first token stands its first; after its last one nothing is read.
        taken = (columns + behind).clamp(min=0).minimum(last[source][:, None])
        edits = {}
        for site, numbers in by_site(swap.units).items():
            picked = [self.units[site].index(number) for number in numbers]
            own = self.values[site][..., picked]
            laid = own[source].gather(1, taken[..., None].expand(*taken.shape, len(picked)))
            if swap.place == "last":
                # Nothing has changed there, so that a unit's own values change nothing either.
                laid = torch.where((columns < last[:, None] - swap.shift)[..., None], own, laid)
            acts = as_source(laid, numbers, self.model.sites()[site].n_units)
            edits[site] = [
                patch(acts, numbers, positions=positions, examples=rows)
                for rows, positions in _where(self.prompts, swap)
            ]
        return edits


def _where(prompts: Prompts, swap: Swap) -> list[tuple[Tensor | None, Tensor | None]]:
    """Rows and positions that are edited together: all, where nothing is read behind the last."""
    if not swap.shift:
        return [(None, None)]
    found = []
    for last in prompts.last.unique().tolist():
        rows = (prompts.last == last).nonzero()
        first = 0 if swap.place == "all" else max(0, last - swap.shift)
        found.append((rows, torch.arange(first, last - swap.shift + 1)))
    return found
