"""Sparse MLPs whose units speak above a threshold: BatchTopK and JumpReLU."""

from dataclasses import dataclass
from math import log
from statistics import NormalDist

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.activations import Activations
from pellucid.models.filling import Cost, Told
from pellucid.models.mlp.sparse import SparseMLP
from pellucid.models.moments import tail_second_moment
from pellucid.models.sharding import set_rows
from pellucid.settings.fields import setting


class ThresholdMLP(SparseMLP):
    """Units per token vary, so values are kept dense and the products are dense products."""

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        return F.linear(acts.to_dense(), self.w_dec.T, self.b_dec)

    def _units(self, values: Tensor) -> tuple[Activations, Told]:
        fired = (values.detach() != 0).flatten(0, -2).sum(0)
        return Activations(values, n_units=self.site.n_units), {"sum/fired": fired}

    def first_threshold(self) -> float:
        """What leaves k units active where pre-activations are unit-normal, as they are at first."""
        share = min(self.config.k / self.site.n_units, 0.49)
        return NormalDist().inv_cdf(1 - share)

    def cost(self, context: int) -> Cost:
        columns, encode = self.w_dec.shape[1], 2 * self.w_enc.numel()
        decode = 2 * self.config.k * columns
        active = self.w_enc.numel() + self.b_enc.numel() + decode // 2 + self.b_dec.numel()
        return Cost(active, encode + 2 * self.w_dec.numel(), encode + decode)

    def write_scale(self) -> float:
        width = self.site.n_units
        return (width * tail_second_moment(min(self.config.k / width, 0.5))) ** 0.5


class BatchTopKMLP(ThresholdMLP):
    """The k·tokens largest pre-activations of a batch are kept (arXiv 2412.06410).

    That is not causal in training. In evaluation a fixed threshold, the running mean of the
    smallest kept value, decides for each token alone.
    """

    causal_in_training = False

    @dataclass(frozen=True, kw_only=True)
    class Config(ThresholdMLP.Config):
        momentum: float = setting(0.99, low=0.0, high=1.0)
        """Share of the old value when the inference threshold is updated after a step."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)
        self.register_buffer("threshold", torch.tensor(self.first_threshold()))

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        pre = F.linear(x, self.w_enc, self.b_enc).relu()
        threshold = self._smallest_kept(pre) if self.training else self.threshold
        acts, told = self._units(pre * (pre >= threshold))
        return acts, told | {"mean/threshold": threshold.detach().float()}

    def _smallest_kept(self, pre: Tensor) -> Tensor:
        """The k·tokens-th largest value; never 0, which would call silent units active."""
        kept = self.config.k * pre.shape[:-1].numel()
        flat = pre.detach().flatten()
        smallest = flat.kthvalue(flat.numel() - kept + 1).values
        return smallest.clamp_min(torch.finfo(pre.dtype).tiny)

    @torch.no_grad()
    def after_step(self, told: Told, tokens: int) -> None:
        super().after_step(told, tokens)
        self.threshold.lerp_(told["mean/threshold"].to(self.threshold), 1 - self.config.momentum)


class JumpReLUMLP(ThresholdMLP):
    """`z · 1[z > θ]` with a learned θ per unit (arXiv 2407.14435).

    θ learns through a rectangle kernel of the given bandwidth, against a penalty that pulls the
    running mean of active units to k.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ThresholdMLP.Config):
        bandwidth: float = setting(0.1, above=0.0)
        """Width of the rectangle kernel, in units of pre-activation."""
        sparsity_weight: float = setting(0.05, low=0.0)
        """Weight of the penalty (mean active units / k - 1)² in the loss."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)
        start = torch.full((self.site.n_units,), log(self.first_threshold()))
        self.log_threshold = nn.Parameter(start)
        self.register_buffer("mean_active", torch.tensor(float(config.k)))

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        pre = F.linear(x, self.w_enc, self.b_enc)
        threshold = self.log_threshold.exp()
        gate = Step.apply(pre, threshold, self.config.bandwidth)
        values = JumpReLU.apply(pre, threshold, self.config.bandwidth)
        acts, told = self._units(values)
        active = gate.sum(-1).mean()
        told["mean/active"] = active.detach()
        return acts, told | {"loss/sparsity": self._penalty(active)}

    def _penalty(self, active: Tensor) -> Tensor:
        """The penalty's tangent at the running mean: linear, so that a split batch sums to a whole."""
        excess = self.mean_active / self.config.k - 1
        slope = 2 * excess * (active - self.mean_active) / self.config.k
        return self.config.sparsity_weight * (excess**2 + slope)

    @torch.no_grad()
    def after_step(self, told: Told, tokens: int) -> None:
        super().after_step(told, tokens)
        self.mean_active.lerp_(told["mean/active"].to(self.mean_active), 0.1)

    @torch.no_grad()
    def revive(self, after: int, budget: float, generator: torch.Generator) -> dict[str, Tensor]:
        """As for every sparse layer; a revived unit's threshold starts anew, too."""
        revived = super().revive(after, budget, generator)
        if not revived:
            return {}
        rows = revived["w_enc"]
        start = torch.full((len(rows),), log(self.first_threshold())).to(self.firing_rate.device)
        set_rows(self.log_threshold, rows, start.to(self.log_threshold.dtype))
        return revived | {"log_threshold": rows}


class _Gate(torch.autograd.Function):
    """What both functions keep for their gradients; `torch.vmap` derives its rule from theirs."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx, inputs, output):
        pre, threshold, ctx.bandwidth = inputs
        ctx.save_for_backward(pre, threshold)


class JumpReLU(_Gate):
    """`z · 1[z > θ]`; the gradient to θ is the kernel's estimate -θ/ε · 1[|z - θ| < ε/2]."""

    @staticmethod
    def forward(pre, threshold, bandwidth):
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx, grad):
        pre, threshold = ctx.saved_tensors
        near = ((pre - threshold).abs() < ctx.bandwidth / 2).to(grad.dtype)
        to_threshold = -(threshold / ctx.bandwidth) * near * grad
        return grad * (pre > threshold), to_threshold.sum_to_size(threshold.shape), None


class Step(_Gate):
    """`1[z > θ]`; the gradient to θ is -1/ε · 1[|z - θ| < ε/2], to z none."""

    @staticmethod
    def forward(pre, threshold, bandwidth):
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx, grad):
        pre, threshold = ctx.saved_tensors
        near = ((pre - threshold).abs() < ctx.bandwidth / 2).to(grad.dtype)
        return None, (-near * grad / ctx.bandwidth).sum_to_size(threshold.shape), None
