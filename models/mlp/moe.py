"""Mixture of experts, seen as one wide MLP of which each token runs a few parts."""

from dataclasses import dataclass
from functools import cache
from math import sqrt
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.kernels import topk_rows
from pellucid.models.activations import Activations, canonical
from pellucid.models.filling import Cost, Told
from pellucid.models.firing import Firing, fired
from pellucid.models.mlp.grouped import run_experts
from pellucid.models.mlp.lookup import precise_linear
from pellucid.models.mlp.slots import decode_slots, products_at
from pellucid.models.sharding import like, set_rows
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}


class MoEMLP(Firing):
    """`Σ_e p_e W_out^e act(W_in^e x)` over the k experts of the largest softmax p (2101.03961).

    That is one wide MLP, `W_out (p ⊙ act(W_in x))`, with p constant within an expert and 0 outside
    the chosen ones (MoE-X, arXiv 2503.07639). Units are the experts' neurons with their gate;
    removing one removes exactly what it wrote. No expert is ever full: no token is dropped.

    In training the tokens of an expert are multiplied together, and a product's last bits depend on
    how many there are; in evaluation, and where the site is in use, each neuron is taken by itself.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        router: Literal["switch", "moe_x"] = setting("switch")
        """switch learns a matrix; moe_x prefers the experts of which fewest neurons should fire,
        as told by the means and variances of their weights."""
        n_experts: int = setting(16, low=1, high=2**16)
        """Experts of equal width."""
        k: int = setting(2, low=1)
        """Experts that each token runs."""
        width: int | None = setting(None, low=1)
        """Neurons of all experts together; none lets each token run 4 x d_model."""
        activation: Literal["relu", "gelu"] = setting("relu")
        """Non-linearity of the experts."""
        balance: float = setting(0.01, low=0.0)
        """Weight of the loss that spreads tokens over experts."""

        def resolved_width(self, d_model: int) -> int:
            if self.k > self.n_experts:
                raise ConfigError(
                    f"mlp.k is {self.k}; at most mlp.n_experts, {self.n_experts}, is accepted"
                )
            if self.width is None:
                return self.n_experts * max(1, 4 * d_model // self.k)
            if self.width % self.n_experts:
                raise ConfigError(
                    f"mlp.width is {self.width}; a multiple of mlp.n_experts, {self.n_experts}, "
                    f"is accepted"
                )
            return self.width

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        width = config.resolved_width(d_model)
        self.expert_width = width // config.n_experts
        if config.router == "switch":
            self.w_route = nn.Parameter(torch.empty(config.n_experts, d_model))
        self.w_in = nn.Parameter(torch.empty(width, d_model))
        self.b_in = nn.Parameter(torch.zeros(width))
        self.w_out = nn.Parameter(torch.empty(width, d_model))
        self.b_out = nn.Parameter(torch.zeros(d_model))
        self.count_firing(width)
        self.register_buffer("load", torch.full((config.n_experts,), 1 / config.n_experts))
        self.site = UnitSite(
            "mlp",
            width,
            signed=config.activation != "relu",
            exactness="unit-ablation-exact",
            takes_rest=True,
            write=lambda: self.w_out,
            read=lambda: self.w_in,
        )

    def forward(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        if not self.training:
            return super().forward(x)
        shares, gates, experts = self._chosen(x)
        y, active = run_experts(
            *(t.flatten(0, 1) for t in (x, gates, experts)),
            *(self._by_expert(w) for w in (self.w_in, self.b_in, self.w_out)),
            ACTIVATIONS[self.config.activation],
        )
        return self._with_bias(y.view_as(x)), self._told(shares, experts) | {"sum/fired": active}

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        shares, gates, experts = self._chosen(x)
        neurons = self._neurons(experts)
        biases = F.embedding(experts, self.b_in.view(-1, self.expert_width)).flatten(2)
        hidden = products_at(x, self.w_in, neurons)
        values = ACTIVATIONS[self.config.activation](hidden + biases.to(hidden.dtype))
        values = values * gates.repeat_interleave(self.expert_width, -1).to(values.dtype)
        acts = canonical(values, neurons, self.site.n_units)
        return acts, self._told(shares, experts) | {"sum/fired": fired(acts.indices, acts.n_units)}

    def _chosen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All experts' shares `(tokens, expert)`; gates and experts of each token, by expert."""
        shares = self.route(x.flatten(0, 1)).softmax(-1)
        gates, experts = topk_rows(shares, self.config.k)
        return shares, gates.unflatten(0, x.shape[:2]), experts.unflatten(0, x.shape[:2])

    def _told(self, shares: Tensor, experts: Tensor) -> Told:
        return {
            "loss/balance": self._balance(shares),
            "sum/load": fired(experts, self.config.n_experts),
        }

    def _by_expert(self, weight: Tensor) -> Tensor:
        return weight.unflatten(0, (self.config.n_experts, self.expert_width))

    def route(self, x: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens expert"]:
        """Logits of the experts for each token, computed in the precision of the weights."""
        if self.config.router == "switch":
            return precise_linear(x, self.w_route)
        return self.expert_width**0.5 * -self.expected_share(x)

    def expected_share(self, x: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens expert"]:
        """The share of each expert's neurons above 0 if its weights were independent Gaussians.

        Their means and variances per input channel give those of a pre-activation, m and s²; above
        0 is then the share ½(1 + erf(m / √2 s)). Differentiable: the router has no other weights.
        """
        weight = self.w_in.unflatten(0, (self.config.n_experts, -1))
        bias = self.b_in.unflatten(0, (self.config.n_experts, -1))
        variances, means = torch.var_mean(weight, dim=1, correction=0)
        spread, shift = torch.var_mean(bias, dim=1, correction=0)
        mean = precise_linear(x, means) + shift
        variance = precise_linear(x.to(weight.dtype).square(), variances) + spread
        return (1 + torch.erf(mean / (2 * variance).clamp_min(1e-12).sqrt())) / 2

    def _neurons(
        self, experts: Int32[Tensor, "batch token k"]
    ) -> Int32[Tensor, "batch token slot"]:
        within = torch.arange(self.expert_width, dtype=torch.int32, device=experts.device)
        return (experts[..., None] * self.expert_width + within).flatten(2)

    def _balance(self, shares: Float[Tensor, "tokens expert"]) -> Tensor:
        """Switch's loss, experts · Σ_e load_e · mean share_e, with the running mean of the load.

        The load has no gradient, and a batch's own would make the loss of a whole batch another
        than the sum over its parts.
        """
        load = self.load.to(shares.dtype)
        return self.config.balance * self.config.n_experts * (load * shares.mean(0)).sum()

    @torch.no_grad()
    def after_step(self, told: Told, tokens: int) -> None:
        super().after_step(told, tokens)
        load = told["sum/load"] / (tokens * self.config.k)
        self.load.lerp_(load.to(self.load.dtype), 0.1)

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        return self._with_bias(decode_slots(acts, self.w_out))

    def _with_bias(self, y: Tensor) -> Tensor:
        return y + self.b_out.to(y.dtype)

    @torch.no_grad()
    def take_dense(
        self, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor
    ) -> tuple[str, ...]:
        """Start every expert from a dense MLP (upcycling, arXiv 2212.05055, 2410.07524).

        An expert as wide takes all units; narrower ones take one stretch after the other, and over
        again. What they write is multiplied so that the experts of a token are expected to write
        as much as the dense MLP. moe_x cannot: it tells experts apart by these very weights.
        """
        if self.config.router != "switch" or w_in.shape[1] != self.w_in.shape[1]:
            return ()
        places = torch.arange(self.site.n_units, device=w_in.device)
        within = places % self.expert_width
        taken = places[within < len(w_in)]
        units = (taken if self.expert_width < len(w_in) else within[taken]) % len(w_in)
        gates = gate_sum(self.config.n_experts, self.config.k)
        share = gates * min(1.0, self.expert_width / len(w_in))
        self.w_out.copy_(like(torch.zeros(self.w_out.shape), self.w_out))
        given = ((self.w_in, w_in), (self.b_in, b_in), (self.w_out, w_out / share))
        for parameter, value in given:
            set_rows(parameter, taken, value[units].to(parameter.dtype))
        self.b_out.copy_(like(b_out, self.b_out))
        return "w_in", "b_in", "w_out", "b_out"

    def cost(self, context: int) -> Cost:
        d_model, run = self.w_in.shape[1], self.config.k * self.expert_width
        statistics = 1 if self.config.router == "switch" else 2
        router = statistics * self.config.n_experts * d_model
        active = router + run * (2 * d_model + 1) + d_model
        flops = 2.0 * router + 4.0 * run * d_model
        return Cost(active, flops, flops)

    def initial_std(self) -> dict[str, float]:
        return {"w_route": self.w_in.shape[1] ** -0.5} if self.config.router == "switch" else {}

    def write_scale(self) -> float:
        c = self.config
        return energy(c.router, c.n_experts, c.k, self.expert_width, c.activation) ** 0.5


@cache
def gate_sum(n_experts: int, k: int) -> float:
    """Expected sum of the k largest of a softmax over unit-normal logits, by draws."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2**20 // n_experts + 64, n_experts, generator=generator, device="cpu")
    return float(logits.softmax(-1).topk(k).values.sum(-1).mean())


@cache
def energy(router: str, n_experts: int, k: int, expert_width: int, activation: str) -> float:
    """Expected squared sum of a token's gated activations, by draws of unit-normal pre-activations.

    Draws, because moe_x chooses by the same numbers that it then activates.
    """
    generator = torch.Generator().manual_seed(0)
    draws = max(64, 2**20 // (n_experts * expert_width))
    pre = torch.randn(draws, n_experts, expert_width, generator=generator, device="cpu")
    if router == "switch":
        logits = torch.randn(draws, n_experts, generator=generator, device="cpu")
    else:
        spread = sqrt(max(2 * (1 - 1 / expert_width), 1e-12))
        logits = -(expert_width**0.5) * (1 + torch.erf(pre.mean(-1) / spread)) / 2
    gates, chosen = logits.softmax(-1).topk(k)
    energies = ACTIVATIONS[activation](pre).square().sum(-1).gather(1, chosen)
    return float((gates.square() * energies).sum(-1).mean())
