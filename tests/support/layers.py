"""What is done to one MLP layer alone: units ablated, its gates computed by hand."""

import torch
from torch import Tensor

from pellucid.models import ablate
from pellucid.models.units import SiteState, restored


def normal(*shape: int, seed: int = 9) -> Tensor:
    """Unit-normal draws in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def without(mlp, x: Tensor, units: list[int]) -> Tensor:
    """What the layer writes while some of its units are ablated."""
    with restored([mlp.site], [SiteState(edits=(ablate(units),))]):
        return mlp.split(x)[0]


def ablation_error(mlp, x: Tensor, units: list[int], written: Tensor) -> float:
    """How far an ablation is from removing exactly what the units wrote, relative to it."""
    with torch.no_grad():
        removed = mlp(x)[0] - without(mlp, x, units)
        assert float(written.abs().max()) > 1e-3, "the ablated units wrote nothing"
        return float((removed - written).abs().max() / written.abs().max())


def gates_by_hand(mlp, x: Tensor) -> Tensor:
    """Product keys, all pairs of them: for `x (token, d_model)` the gates `(token, unit)`.

    That is the sum over heads of the softmax over each head's k best scores.
    """
    heads, _, side, half = mlp.keys.keys.shape
    total = torch.zeros(len(x), side * side, dtype=x.dtype)
    query = (x @ mlp.keys.w_query.T).view(len(x), heads, 2, half)
    query = query / (query.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    for head in range(heads):
        first, second = (query[:, head, z] @ mlp.keys.keys[head, z].T for z in (0, 1))
        scores = (first[:, :, None] + second[:, None]).flatten(1)
        best = scores >= scores.topk(mlp.config.k, dim=1).values[:, -1:]
        total = total + scores.masked_fill(~best, -torch.inf).softmax(-1)
    return total
