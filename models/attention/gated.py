"""Softmax attention with a hard gate on every edge."""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.attention.heads import HeadedAttention, causal, visible
from pellucid.models.attention.softmax import SoftmaxAttention
from pellucid.models.filling import Cost, Told
from pellucid.settings.fields import setting


class GatedAttention(SoftmaxAttention):
    """`G ⊙ softmax(q kᵀ / √d_head) v` with gates `G` that are exactly 0 or 1 (arXiv 2512.05865).

    A gate's logit is a bilinear form of its own of the two inputs, `gᵠ·gᵏ / √d_head + b`, by the
    second halves of `w_q` and `w_k`. The gates stand after the softmax: a closed edge carries exactly
    nothing of its key's value, and opening or closing one leaves the others as they are. In training
    a gate is a Bernoulli draw, differentiable as a Gumbel-sigmoid with a straight-through step, and
    the expected share of open edges is a loss; in evaluation it is open where that is likelier than
    not. The paper fine-tunes a model of open edges, and weighs the loss by a multiplier that holds
    the model's loss; from scratch there is none to hold, so that the weight is a setting, and nearly
    all edges are open at first: draws that close one in ten teach heads less before they attend.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SoftmaxAttention.Config):
        sparsity: float = setting(0.01, low=0.0)
        """Weight of the expected share of open edges in the loss: what all edges together cost."""
        annealing: float = setting(1.0, low=0.0, high=1.0)
        """Share of the training over which that weight rises from 0: edges are first put to use."""
        temperature: float = setting(0.67, above=0.0)
        """Of the sigmoid through which a gate's draw is differentiated."""
        first_open: float = setting(0.99, above=0.0, below=1.0)
        """Probability that a gate of logit form 0 is open when training starts."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model, exactness="edge-exact", n_scores=2)
        first = log(config.first_open / (1 - config.first_open))
        self.b_gate = nn.Parameter(torch.full((config.n_heads,), first))
        self.register_buffer("open_share", torch.tensor(1.0))
        # A tensor, so that a compiled layer is not compiled anew whenever it changes.
        self.register_buffer("weight", torch.tensor(config.sparsity), persistent=False)

    # The gates stand after the softmax, where the fused operation has no room for them.
    _fused = HeadedAttention._fused

    def edges(self, q: Tensor, k: Tensor) -> tuple[Float[Tensor, "batch head query key"], Told]:
        """Shares of the softmax where the gate is open, exactly 0 where it is closed."""
        (q, gate_q), (k, gate_k) = q.chunk(2, dim=1), k.chunk(2, dim=1)
        shares, told = super().edges(q, k)
        logits = ((gate_q / self.d_head**0.5) @ gate_k.mT).add_(self.b_gate[:, None, None])
        temperature = self.config.temperature
        gates = _Draw.apply(logits, temperature) if self.training else (logits > 0).to(logits.dtype)
        told["loss/edges"] = self.weight * _visible_mean(logits.sigmoid())
        told["mean/open"] = _visible_mean(gates.detach())
        return shares * gates, told

    def before_step(self, progress: float) -> None:
        rising = progress < self.config.annealing
        share = progress / self.config.annealing if rising else 1.0
        self.weight.fill_(share * self.config.sparsity)

    @torch.no_grad()
    def after_step(self, told: Told, tokens: int) -> None:
        self.open_share.lerp_(told["mean/open"].to(self.open_share), 0.1)

    def cost(self, context: int) -> Cost:
        plain = super().cost(context)
        # Without numbers (a model that is only counted) every edge counts as open.
        share = 1.0 if self.open_share.is_meta else float(self.open_share)
        closed = (1 - share) * (context + 1) * self.w_o.shape[1]
        return Cost(plain.active, plain.executed, plain.ideal - closed)


class _Draw(torch.autograd.Function):
    """Gates of 0 or 1 by their logits, with the gradient of the Gumbel-sigmoid of a temperature.

    Half of the time of this attention is in passes over numbers as many as edges, so that no pass
    is made twice and none makes a tensor that is not needed.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, temperature: float) -> Tensor:
        noisy = torch.rand_like(logits).logit_(torch.finfo(logits.dtype).tiny).add_(logits)
        ctx.save_for_backward(noisy)
        ctx.temperature = temperature
        return (noisy > 0).to(noisy.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (noisy,) = ctx.saved_tensors
        soft = (noisy / ctx.temperature).sigmoid_()
        return torch.ops.aten.sigmoid_backward(grad, soft).div_(ctx.temperature), None


def _visible_mean(values: Float[Tensor, "batch head query key"]) -> Tensor:
    """Mean over the edges that causality allows."""
    queries, keys = values.shape[2:]
    mask = causal(queries, keys, values.device)
    dtype = torch.promote_types(values.dtype, torch.float32)
    # One product with the mask, which keeps no copy of the edges.
    return (values.to(dtype).flatten(2) @ mask.flatten().to(dtype)).mean() / visible(queries, keys)
