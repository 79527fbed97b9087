"""What a circuit is asked to do: the loss of a task, from the logits at the end of each prompt."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.frozen import Scales, are_held, held_at, scales_of
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.tasks import TaskBatch
from pellucid.models import Edit, intervene, unwrap
from pellucid.models.beginnings import beginnings_of
from pellucid.models.edits import mix


@dataclass(frozen=True)
class Readout:
    """The margin of a circuit, scaled and shifted: a circuit may be right and less sure of it."""

    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class Asked:
    """The prompts of a task: A of all pairs, then B of all pairs."""

    tokens: Int[Tensor, "row token"]
    last: Int[Tensor, " row"]
    first: Int[Tensor, " row"]
    """answer A of the row's pair"""
    second: Int[Tensor, " row"]
    """answer B of the row's pair; -1 where all other tokens stand against A"""
    wants_first: Tensor
    """(row,) bool: whether A is right"""
    scales: Scales | None = None
    """what norms are held at in circuits; None: they follow the circuit"""

    @classmethod
    def of(cls, batch: TaskBatch, device: torch.device | str = "cpu") -> Self:
        """The prompts of a batch of a task, on a device."""
        n = len(batch)
        both = [
            torch.cat([batch.tokens_a, batch.tokens_b]),
            torch.cat([batch.last_a, batch.last_b]),
            batch.answer_a.repeat(2),
            batch.answer_b.repeat(2),
            torch.arange(2 * n) < n,
        ]
        return cls(*(each.to(device) for each in both))

    def __len__(self) -> int:
        """Rows: two for each pair."""
        return len(self.tokens)

    @property
    def partner(self) -> Int[Tensor, " row"]:
        """The row of the other prompt of the pair."""
        return torch.arange(len(self), device=self.tokens.device).roll(len(self) // 2)

    def holding(self, model: nn.Module) -> Self:
        """The same prompts, norms being held in circuits as they are in the whole model."""
        return replace(self, scales=scales_of(model, self.tokens))

    def norms(self, model: nn.Module) -> AbstractContextManager[None]:
        """Passes over the prompts within hold norms, if these are held for them."""
        return nullcontext() if self.scales is None else held_at(model, self.scales)

    def margins(self, logits: Float[Tensor, "copies_row vocab"]) -> Float[Tensor, " copies_row"]:
        """By how much A is likelier than B, or than all other tokens, in nats, at each row's end.

        `logits` may hold the rows several times over.
        """
        copies = len(logits) // len(self)
        first = self.first.repeat(copies)[:, None]
        second = self.second.repeat(copies)[:, None]
        a = logits.gather(1, first)[:, 0]
        b = logits.gather(1, second.clamp(min=0))[:, 0]
        if not (self.second < 0).any():
            return a - b
        rest = logits.scatter(1, first, float("-inf")).logsumexp(-1)
        return a - torch.where(second[:, 0] < 0, rest, b)

    def loss(
        self, margins: Float[Tensor, " copies_row"], readout: Readout = Readout()
    ) -> Float[Tensor, " copy"]:
        """Mean over pairs of −½ [log p(A | x⁺) + log p(B | x⁻)], in nats, for each copy of the rows.

        Chance is ln 2 (arXiv 2511.13653).
        """
        seen = margins.view(-1, len(self)) * readout.scale + readout.shift
        right = torch.where(self.wants_first, seen, -seen)
        return F.softplus(-right).mean(-1)


def edits_of(nodes: Nodes, share: Float[Tensor, "*copies node"], base: Base) -> dict[str, Edit]:
    """The edits that leave each node its share of itself, the rest being its base.

    `share` is `(node,)`, or `(copy, node)` where each copy of the rows, one after the other, has
    its own.
    """
    return {site: mix(kept, base[site]) for site, kept in nodes.by_site(share).items()}


def margins_of(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    share: Float[Tensor, "*copies node"] | None = None,
    base: Base | None = None,
) -> Float[Tensor, " copies_row"]:
    """Margins of the prompts under nodes that are left out.

    `share (copy, node)` reads the prompts once for each copy, in one pass (restarts of a pruning,
    or several circuits); without it the model is as it is. A base `(row, token, unit)` is one for
    the rows of the task, and is repeated for the copies. Norms are held if the prompts hold them.
    """
    tokens, last = asked.tokens, asked.last
    inner = unwrap(model)
    if share is None:
        return asked.margins(inner.logits_at(tokens, last))
    copies = len(share) if share.ndim == 2 else 1
    if _alike(inner, base):
        rows = beginnings_of(tokens, last)
        held = asked.scales and tuple(s.flatten(0, 1)[rows.first][:, None] for s in asked.scales)
        edits = edits_of(nodes, share, base)
        with replace(asked, scales=held).norms(model), intervene(model, edits):
            return asked.margins(inner.logits_of(rows, copies))
    if copies > 1:
        tokens, last = tokens.repeat(copies, 1), last.repeat(copies)
        base = {site: _repeated(value, copies) for site, value in base.items()}
    with asked.norms(model), intervene(model, edits_of(nodes, share, base)):
        return asked.margins(inner.logits_at(tokens, last))


def _alike(model: nn.Module, base: Base) -> bool:
    """Whether rows that begin alike are alike so far in circuits.

    They are not where each prompt has values of its own to be held at, and may not be where other
    edits are in force or norms held by others, or where the head looks beyond a position.
    """
    by_row = any(isinstance(value, Tensor) and value.ndim > 1 for value in base.values())
    looked_at = any(site.startswith("head.") for site in base)
    in_use = any(site.state.in_use for site in model.sites().values()) or are_held(model)
    return model.head.pointwise and not (by_row or looked_at or in_use)


def _repeated(value: float | Tensor, copies: int) -> float | Tensor:
    if isinstance(value, Tensor) and value.ndim == 3:
        return value.repeat(copies, 1, 1)
    return value
