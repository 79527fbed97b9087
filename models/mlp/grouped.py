"""The experts of many tokens, an expert at a time."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.kernels.grouped import grouped_outer, grouped_products
from pellucid.models.filling import under_autocast


def run_experts(
    x: Float[Tensor, "tokens d_model"],
    gates: Float[Tensor, "tokens k"],
    experts: Int[Tensor, "tokens k"],
    w_in: Float[Tensor, "expert neuron d_model"],
    b_in: Float[Tensor, "expert neuron"],
    w_out: Float[Tensor, "expert neuron d_model"],
    act: Callable[[Tensor], Tensor],
) -> tuple[Float[Tensor, "tokens d_model"], Int[Tensor, " unit"]]:
    """`Σ_e gate_e W_out^e act(W_in^e x + b_in^e)` of each token, and how often each neuron spoke.

    Tokens are sorted by expert. Their rows are taken by `F.embedding`, whose gradient has a fixed
    order of sums on every device.
    """
    k = experts.shape[1]
    chosen, order = experts.flatten().long().sort(stable=True)
    every = torch.arange(len(w_in), device=chosen.device)
    ends = torch.searchsorted(chosen, every, right=True)
    w_in, w_out, rows = under_autocast(w_in, w_out, F.embedding(order // k, x))
    hidden = grouped_products(rows, w_in.mT, ends) + F.embedding(chosen, b_in).to(rows.dtype)
    values = act(hidden) * gates.flatten()[order, None].to(hidden.dtype)
    written = F.embedding(order.argsort(), grouped_products(values, w_out, ends))
    return written.unflatten(0, (-1, k)).sum(1), _spoke(values.detach(), ends)


@torch.no_grad()
def _spoke(values: Float[Tensor, "rows neuron"], ends: Int[Tensor, " expert"]) -> Tensor:
    """Rows of each expert at which each of its neurons is not 0, counted exactly in float32."""
    spoke = (values != 0).to(torch.float32)
    return grouped_outer(torch.ones_like(spoke[:, :1]), spoke, ends).flatten().long()
