"""Losses of circuits, and what each of their nodes is worth."""

from collections.abc import Sequence
from math import log

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.lengths import margins_by_length
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked, Readout, margins_of
from pellucid.eval.stream import CHUNK_TOKENS

MOST = 4.0
"""Largest scale of a readout: a circuit may be a quarter as sure as it has to be."""


@torch.no_grad()
def margins_of_many(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    kept: Bool[Tensor, "copy node"],
    base: Base,
) -> Float[Tensor, "copy row"]:
    """Margins of the prompts in circuits of any number, read a few circuits at a time."""
    like = next(model.parameters())
    chunk = max(1, CHUNK_TOKENS // asked.tokens.numel())
    pieces = [
        margins_by_length(model, nodes, asked, some.to(like), base).view(len(some), -1)
        for some in kept.split(chunk)
    ]
    return torch.cat(pieces)


def losses_of(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    kept: Bool[Tensor, "copy node"],
    base: Base,
    readouts: Sequence[Readout] | None = None,
) -> tuple[Float[Tensor, " copy"], list[Readout]]:
    """Losses of circuits in nats, each at its readout; without readouts at the best of each."""
    margins = margins_of_many(model, nodes, asked, kept, base)
    if readouts is None:
        readouts = [fitted(asked, each) for each in margins]
    losses = [asked.loss(each, at) for each, at in zip(margins, readouts, strict=True)]
    return torch.cat(losses), list(readouts)


@torch.enable_grad()
def fitted(asked: Asked, margins: Float[Tensor, " row"], steps: int = 16) -> Readout:
    """The scale and shift of the margins with the least loss, by steps of LBFGS.

    The scale is above 0 and below `MOST`: a circuit that says the opposite of the answer is not
    right, and one that is hardly ever sure is not the model. Without any gain, margins stay as
    they are.
    """
    margins = margins.detach().double()
    # Around their mean: scale and shift of margins that lean to one side are nearly one direction.
    mean = margins.mean()
    centred = margins - mean
    values = margins.new_tensor([log(1 / (MOST - 1)), 0.0]).requires_grad_()
    optimizer = torch.optim.LBFGS([values], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        seen = centred * MOST * values[0].sigmoid() + values[1]
        total = F.softplus(torch.where(asked.wants_first, -seen, seen)).mean()
        total.backward()
        return total

    optimizer.step(loss)
    slope, shift = values.detach()
    scale = MOST * slope.sigmoid()
    found = Readout(float(scale), float(shift - scale * mean))
    better = bool(asked.loss(margins, found) < asked.loss(margins))
    return found if better else Readout()


def effects(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    kept: Bool[Tensor, " node"],
    base: Base,
    readout: Readout,
) -> tuple[Integer[Tensor, " kept"], Float[Tensor, " kept"]]:
    """The numbers of a circuit's nodes, and the rise of its loss, in nats, without each of them."""
    numbers = kept.nonzero()[:, 0]
    without = kept.repeat(len(numbers) + 1, 1)
    without[torch.arange(len(numbers), device=kept.device), numbers] = False
    readouts = [readout] * len(without)
    losses, _ = losses_of(model, nodes, asked, without, base, readouts)
    return numbers, losses[:-1] - losses[-1]


@torch.enable_grad()
def estimated_effects(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    kept: Bool[Tensor, " node"],
    base: Base,
    readout: Readout,
) -> tuple[Integer[Tensor, " kept"], Float[Tensor, " kept"]]:
    """As `effects`, to first order: what the slope of the loss says of each node, in one pass."""
    share = kept.to(next(model.parameters())).requires_grad_()
    loss = asked.loss(margins_of(model, nodes, asked, share, base), readout)
    (slope,) = torch.autograd.grad(loss.sum(), share)
    return kept.nonzero()[:, 0], -slope[kept]
