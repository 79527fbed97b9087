"""Monet's n² experts, composed of 2n halves: how they are mixed, and what a single one writes."""

from abc import abstractmethod
from functools import cache

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.activations import Activations
from pellucid.models.filling import Rule

MEAN, SQUARE = 0.5, 1.5
"""Moments of relu(z)² for z ~ N(0, 1)."""


class Experts(nn.Module):
    """Halves `i` and `j` of `side` each; expert `(i, j)` is unit `i · side + j`.

    `mix` sums all experts weighted by `Σ_heads g1_hi g2_hj` without naming one of them; `write`
    sums named ones alone, at a cost that grows with their number.
    """

    def __init__(self, d_model: int, side: int, width: int, k: int, n_heads: int, write_lr: float):
        super().__init__()
        self.side, self.k, self.n_heads = side, k, n_heads
        self.write_lr = write_lr
        self.w_in = nn.Parameter(torch.empty(width, d_model))
        self.b_in = nn.Parameter(torch.zeros(width))

    @abstractmethod
    def hidden(self, x: Float[Tensor, "batch token d_model"]) -> Tensor:
        """What the experts' neurons say, `relu(x W_inᵀ + b_in)²`, by half."""

    @abstractmethod
    def mix(
        self, hidden: Tensor, gates: Float[Tensor, "batch token head 2 side"]
    ) -> Float[Tensor, "batch token d_model"]:
        """What all experts write together."""

    @abstractmethod
    def write(self, hidden: Tensor, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        """What the named experts write, each with its coefficient."""

    @abstractmethod
    def write_scale(self) -> float:
        """Root of the expected squared sum that `w_out` multiplies."""

    def _neurons(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w_in, self.b_in).relu().square()

    def _halves(self, acts: Activations) -> tuple[Tensor, Tensor]:
        units = acts.indices.long().clamp(min=0)  # an empty slot has coefficient 0
        return units // self.side, units % self.side

    def rules(self) -> dict[str, Rule]:
        """The experts' biases are a matrix by shape alone: they do not decay."""
        return {"w_out": Rule(lr=self.write_lr), "b_experts": Rule(decay=0.0)}


class HorizontalExperts(Experts):
    """`E_ij(x) = V_j relu(U_i x + c_i)² + b_j`: half i reads, half j writes."""

    def __init__(self, d_model: int, side: int, width: int, k: int, n_heads: int, write_lr: float):
        super().__init__(d_model, side, width, k, n_heads, write_lr)
        self.w_out = nn.Parameter(torch.empty(width, d_model))
        self.b_experts = nn.Parameter(torch.zeros(side, d_model))

    def hidden(self, x: Float[Tensor, "batch token d_model"]) -> Tensor:
        return self._neurons(x).unflatten(-1, (self.side, -1))

    def mix(
        self, hidden: Tensor, gates: Float[Tensor, "batch token head 2 side"]
    ) -> Float[Tensor, "batch token d_model"]:
        first, second = gates.unbind(-2)
        read = einsum(first, hidden, "... head i, ... i neuron -> ... head neuron")
        mixed = einsum(second, read, "... head j, ... head neuron -> ... j neuron")
        return self._out(mixed, second.sum(-2))

    def write(self, hidden: Tensor, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        i, j = self._halves(acts)
        read = take(hidden, i) * acts.values[..., None]
        return self._out(gather_by(j, read, self.side), sum_by(j, acts.values, self.side))

    def _out(self, mixed: Tensor, weights: Tensor) -> Tensor:
        return F.linear(mixed.flatten(-2), self.w_out.T) + F.linear(weights, self.b_experts.T)

    def write_scale(self) -> float:
        return (len(self.w_in) / self.side * crossed(self.side, self.k, self.n_heads)) ** 0.5


class VerticalExperts(Experts):
    """Each half of an expert owns half of its neurons, a1_i or a2_j, and half of its outputs.

    `E_ij(x) = [V11_i a1_i + V12_i a2_j + b1_i ; V21_j a1_i + V22_j a2_j + b2_j]`.
    """

    def __init__(self, d_model: int, side: int, width: int, k: int, n_heads: int, write_lr: float):
        super().__init__(d_model, side, width, k, n_heads, write_lr)
        self.w_out = nn.Parameter(torch.empty(2, width, d_model // 2))
        self.b_experts = nn.Parameter(torch.zeros(2, side, d_model // 2))

    def hidden(self, x: Float[Tensor, "batch token d_model"]) -> Tensor:
        return self._neurons(x).unflatten(-1, (2, self.side, -1))

    def mix(
        self, hidden: Tensor, gates: Float[Tensor, "batch token head 2 side"]
    ) -> Float[Tensor, "batch token d_model"]:
        (a1, a2), weights = hidden.unbind(-3), gates.sum(-3)
        read = einsum(gates, hidden, "... head z i, ... z i neuron -> ... head z neuron")
        # Of the other half's neurons, each head hands on its own sum.
        crossing = einsum(gates, read.flip(-2), "... h z i, ... h z neuron -> ... z i neuron")
        own = torch.stack([a1, a2], -3) * weights[..., None]
        top = torch.cat([own[..., 0, :, :], crossing[..., 0, :, :]], -1)
        bottom = torch.cat([crossing[..., 1, :, :], own[..., 1, :, :]], -1)
        return self._out(top, bottom, weights)

    def write(self, hidden: Tensor, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        i, j = self._halves(acts)
        a1, a2 = hidden.unbind(-3)
        both = torch.cat([take(a1, i), take(a2, j)], -1) * acts.values[..., None]
        weights = torch.stack([sum_by(half, acts.values, self.side) for half in (i, j)], -2)
        return self._out(gather_by(i, both, self.side), gather_by(j, both, self.side), weights)

    def _out(self, top: Tensor, bottom: Tensor, weights: Tensor) -> Tensor:
        halves = [
            F.linear(mixed.flatten(-2), self.w_out[z].T)
            + F.linear(weights[..., z, :], self.b_experts[z].T)
            for z, mixed in enumerate((top, bottom))
        ]
        return torch.cat(halves, -1)

    def write_scale(self) -> float:
        own = SQUARE * overlap(half_energy(self.side, self.k), self.side, self.n_heads)
        neurons = len(self.w_in) / self.side / 2
        return (neurons * (own + crossed(self.side, self.k, self.n_heads))) ** 0.5


def take(hidden: Tensor, half: Tensor) -> Tensor:
    """`hidden (… side neuron)` at the halves `(… slot)`: `(… slot neuron)`."""
    return hidden.gather(-2, half[..., None].expand(*half.shape, hidden.shape[-1]))


def gather_by(half: Tensor, values: Tensor, side: int) -> Tensor:
    """Sum of `values (… slot neuron)` over the slots of each half: `(… side neuron)`."""
    empty = values.new_zeros(*half.shape[:-1], side, values.shape[-1])
    return empty.scatter_add(-2, half[..., None].expand_as(values), values)


def sum_by(half: Tensor, values: Tensor, side: int) -> Tensor:
    """Sum of `values (… slot)` over the slots of each half: `(… side)`."""
    return values.new_zeros(*half.shape[:-1], side).scatter_add(-1, half, values)


@cache
def half_energy(side: int, k: int) -> float:
    """Expected sum of the squared gates of one half, a softmax over the k best of unit normals."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4096, side, generator=generator, device="cpu")
    return float(scores.topk(k).values.softmax(-1).square().sum(-1).mean())


def overlap(same: float, side: int, n_heads: int) -> float:
    """Expected sum over heads' pairs of Σ_i g_hi g_h'i: `same` for equal heads, else by chance."""
    return n_heads * same + n_heads * (n_heads - 1) / side


def crossed(side: int, k: int, n_heads: int) -> float:
    """Expected Σ_j (Σ_h g2_hj Σ_i g1_hi a_i)² for one neuron `a = relu(z)²` of each half i."""
    q = half_energy(side, k)
    variance = SQUARE - MEAN**2
    alone = n_heads * q * (MEAN**2 + variance * q)
    return alone + n_heads * (n_heads - 1) / side * (MEAN**2 + variance / side)
