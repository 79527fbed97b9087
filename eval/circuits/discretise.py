"""From rankings of nodes to the smallest circuit that reaches the target."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.measured import losses_of
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked, Readout


class Cut(NamedTuple):
    """The first nodes of a ranking."""

    kept: Bool[Tensor, " node"]
    loss: float
    readout: Readout

    @property
    def size(self) -> int:
        """Nodes that are kept."""
        return int(self.kept.sum())


def ranking(scores: Float[Tensor, "*copy node"]) -> Integer[Tensor, "*copy node"]:
    """Nodes from the highest score to the lowest; of equals the earlier one first."""
    return scores.argsort(dim=-1, descending=True, stable=True)


def first_of(order: Integer[Tensor, "copy node"], size: int) -> Bool[Tensor, "copy node"]:
    """Which nodes are kept where each ranking keeps its first `size`."""
    kept = torch.zeros(order.shape, dtype=torch.bool, device=order.device)
    return kept.scatter(-1, order[:, :size], True)


def smallest(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    base: Base,
    scores: Float[Tensor, "copy node"],
    target: float,
) -> tuple[int, Cut]:
    """The ranking with the smallest circuit whose loss is at most the target, and that circuit.

    Sizes are tried by doubling, and bisected below the first at which any ranking is good enough.
    Where none is, the circuit is the whole model. Losses are those at the best scale and shift.
    """
    order, n = ranking(scores), len(nodes)

    def cuts(copies: list[int], size: int) -> dict[int, Cut]:
        kept = first_of(order[copies], size)
        losses, readouts = losses_of(model, nodes, asked, kept, base)
        return dict(zip(copies, map(Cut, kept, losses.tolist(), readouts), strict=True))

    def good(found: dict[int, Cut]) -> dict[int, Cut]:
        return {copy: cut for copy, cut in found.items() if cut.loss <= target}

    low, found = -1, {}
    for high in sorted({0, n, *(2**i for i in range(n.bit_length()))}):
        found = cuts(list(range(len(order))) if high < n else [0], high)
        if good(found):
            break
        low = high
    found = good(found) or found
    while high - low > 1 and low < n:
        middle = (low + high) // 2
        if smaller := good(cuts(list(found), middle)):
            high, found = middle, smaller
        else:
            low = middle
    return min(found.items(), key=lambda each: each[1].loss)
