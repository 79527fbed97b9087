"""MIB's scores of a ranking of nodes: CPR and CMD (arXiv 2504.13151)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked, margins_of

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The shares of all nodes that are kept, in the benchmark."""
LEAST = 1e-6
"""A model whose margin is no further than this from an empty circuit's has no faithfulness."""


def areas(shares: Sequence[float], faithful: Sequence[float]) -> tuple[float, float]:
    """CPR and CMD of a curve: the areas under f and under |1 - f|, by trapezoids over the shares."""
    k = torch.tensor(shares, dtype=torch.float64)
    f = torch.tensor(faithful, dtype=torch.float64)
    return float(torch.trapezoid(f, k)), float(torch.trapezoid((1 - f).abs(), k))


@torch.no_grad()
def measure(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    scores: Float[Tensor, " node"],
    resample_base: Base,
) -> dict[str, Any]:
    """`cpr` (higher is better, may exceed 1), `cmd` (0 is ideal) and `points` (nodes kept, f).

    f(k) = (m(C_k) - m(empty)) / (m(model) - m(empty)): m is the mean margin of the right answer
    over the wrong one in nats, C_k the ⌊k · nodes⌋ nodes of the highest scores, all others doing
    what they do on the other prompt. Where model and empty circuit do not differ, all three are
    None, and `reason` says so.
    """
    order = scores.argsort(descending=True, stable=True)
    sizes = [int(share * len(nodes)) for share in SHARES]
    empty, *found = (
        _margin(model, nodes, asked, order[:size], resample_base) for size in (0, *sizes)
    )
    span = float(_right(asked, margins_of(model, nodes, asked))) - empty
    if abs(span) < LEAST:
        reason = f"the model's margin and that of an empty circuit are the same, {empty:.3g} nats"
        return {"cpr": None, "cmd": None, "points": None, "reason": reason}
    faithful = [(margin - empty) / span for margin in found]
    cpr, cmd = areas(SHARES, faithful)
    points = [list(point) for point in zip(sizes, faithful, strict=True)]
    return {"cpr": cpr, "cmd": cmd, "points": points}


def _right(asked: Asked, margins: Float[Tensor, " row"]) -> Float[Tensor, ""]:
    return torch.where(asked.wants_first, margins, -margins).double().mean()


def _margin(model: nn.Module, nodes: Nodes, asked: Asked, kept: Tensor, base: Base) -> float:
    like = next(model.parameters())
    share = torch.zeros(len(nodes), dtype=like.dtype, device=like.device)
    share[kept.to(like.device)] = 1.0
    return float(_right(asked, margins_of(model, nodes, asked, share, base)))
