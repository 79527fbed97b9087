"""Monet: n² experts of which every token mixes a few, at the cost of a dense MLP (2412.04139)."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int32
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.kernels import topk_rows
from pellucid.models.activations import Activations, canonical, merge, same_slots
from pellucid.models.filling import Cost, Told
from pellucid.models.firing import Firing, fired
from pellucid.models.mlp.lookup import check_k, precise_linear, side_of
from pellucid.models.mlp.monet_experts import HorizontalExperts, VerticalExperts
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting

EXPERTS = {"horizontal": HorizontalExperts, "vertical": VerticalExperts}

MOMENTUM = 0.9
"""Share of the old value when the running mean of the gates is updated after a step."""


class MonetMLP(Firing):
    """`Σ_ij A_ij E_ij(x)` with `A = Σ_heads g1_h g2_hᵀ`, gates a softmax over each half's k best.

    The paper keeps what exceeds a quantile of batch-normalized scores, k in expectation; here the
    k best are kept, which needs no batch. Units are experts, activations their coefficients A_ij.
    Experts are never all in memory, not even those of one token: a pass under an edit subtracts
    and adds what the changed ones write, and removing one removes exactly its term.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        split: Literal["horizontal", "vertical"] = setting("horizontal")
        """horizontal: one half of an expert reads and the other writes; vertical: each half has
        half of the neurons and half of the outputs."""
        n_experts: int = setting(1024, low=1, high=2**30)
        """Experts, a square number: each is a pair of halves."""
        k: int = setting(4, low=1)
        """Halves of either kind that each head keeps; it mixes the k² experts made of them."""
        n_heads: int = setting(4, low=1)
        """Heads of the router."""
        width: int | None = setting(None, low=1)
        """Neurons of all halves together; none gives 4 x d_model."""
        uniformity: float = setting(1e-3, low=0.0)
        """Weight of the loss that spreads gates over halves."""
        ambiguity: float = setting(1e-3, low=0.0)
        """Weight of the loss that makes each head prefer one half."""
        write_lr: float = setting(4.0, above=0.0)
        """Learning rate of what experts write as a multiple of all others': gates are small, and so
        these weights start larger than a dense layer's."""

        def resolved_width(self, d_model: int) -> int:
            side = side_of(self.n_experts, "mlp.n_experts")
            check_k(self.k, side, "mlp.k")
            width = 4 * d_model if self.width is None else self.width
            step = side if self.split == "horizontal" else 2 * side
            if width % step:
                raise ConfigError(
                    f"mlp.width is {width}; a multiple of {step}, the halves that share it, "
                    f"is accepted"
                )
            if self.split == "vertical" and d_model % 2:
                raise ConfigError(
                    f"mlp.split is 'vertical', which halves the outputs; an even d_model is "
                    f"accepted, got {d_model}"
                )
            return width

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        width, side = config.resolved_width(d_model), side_of(config.n_experts, "mlp.n_experts")
        self.side = side
        self.w_route = nn.Parameter(torch.empty(config.n_heads * 2 * side, d_model))
        sizes = {"side": side, "width": width, "k": config.k, "n_heads": config.n_heads}
        self.experts = EXPERTS[config.split](d_model, **sizes, write_lr=config.write_lr)
        self.count_firing(config.n_experts)
        self.register_buffer("routing", torch.full((config.n_heads, 2, side), 1 / side))
        self.site = UnitSite("mlp", config.n_experts, signed=False, exactness="unit-ablation-exact")

    def route(
        self, x: Float[Tensor, "batch token d_model"]
    ) -> tuple[Float[Tensor, "batch token head 2 k"], Int32[Tensor, "batch token head 2 k"]]:
        """Gates of the kept halves, which sum to 1, and which halves those are."""
        shape = {"batch": len(x), "h": self.config.n_heads, "two": 2}
        scores = precise_linear(x, self.w_route)
        rows = rearrange(scores, "batch t (h two side) -> (batch t h two) side", **shape)
        best, halves = topk_rows(rows, self.config.k)
        back = "(batch t h two) k -> batch t h two k"
        return rearrange(best.softmax(-1), back, **shape), rearrange(halves, back, **shape)

    def spread(self, gates: Tensor, halves: Tensor) -> Float[Tensor, "batch token head 2 side"]:
        """Gates of all halves, 0 for those that are not kept."""
        empty = gates.new_zeros(*gates.shape[:-1], self.side)
        return empty.scatter(-1, halves.long(), gates)

    def forward(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        gates, halves = self.route(x)
        spread = self.spread(gates, halves)
        return self.experts.mix(self.experts.hidden(x), spread), self._told(spread, halves)

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        gates, halves = self.route(x)
        return self._pairs(gates, halves), self._told(self.spread(gates, halves), halves)

    def decode(
        self, acts: Activations, x: Float[Tensor, "batch token d_model"]
    ) -> Float[Tensor, "batch token d_model"]:
        """What the active experts write, which depends on the layer's input too."""
        return self.experts.write(self.experts.hidden(x), acts)

    def split(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        """All experts mixed as ever, and what the edited coefficients write beyond that.

        The mixture's gates are detached: their gradient comes through the coefficients, which are
        what is recorded. Where nothing was edited the second part is exactly 0.
        """
        gates, halves = self.route(x)
        spread, acts = self.spread(gates, halves), self._pairs(gates, halves)
        hidden = self.experts.hidden(x)
        y = self.experts.mix(hidden, spread.detach())
        change = difference(self.site(acts), acts.detach())
        return y + self.experts.write(hidden, change).to(y.dtype), self._told(spread, halves)

    def _pairs(self, gates: Tensor, halves: Tensor) -> Activations:
        (g1, g2), (i, j) = gates.unbind(-2), halves.unbind(-2)
        values = (g1[..., :, None] * g2[..., None, :]).flatten(-3)
        units = (i[..., :, None] * self.side + j[..., None, :]).flatten(-3)
        return canonical(*merge(values, units, self.config.n_heads), self.config.n_experts)

    def _told(self, spread: Tensor, halves: Tensor) -> Told:
        flat = spread.flatten(0, 1)
        mean = flat.mean(0)
        sharpest = flat.amax(-1).mean()
        load = torch.stack([fired(half, self.side) for half in halves.unbind(-2)])
        return {
            "loss/uniformity": self.config.uniformity * self._unevenness(mean),
            "loss/ambiguity": self.config.ambiguity * (1 - sharpest),
            "mean/routing": mean.detach(),
            "sum/load": load,
            "sum/fired": self._fired(flat.detach()),
        }

    def _unevenness(self, mean: Float[Tensor, "head 2 side"]) -> Tensor:
        """-mean log(side · mean gate), 0 where all are equal; its tangent at the running mean.

        Linear, so that the loss of a whole batch is the sum over its parts.
        """
        running = self.routing.to(mean.dtype).clamp_min(0.01 / self.side)
        value = -(self.side * running).log().mean()
        return value - ((mean - running) / running).mean()

    def _fired(self, spread: Float[Tensor, "token head 2 side"]) -> Tensor:
        """How often each expert was mixed, once for each head: one product of masks for all."""
        kept = (spread > 0).to(torch.float32)
        with torch.autocast(spread.device.type, enabled=False):
            counts = kept[:, :, 0].flatten(0, 1).T @ kept[:, :, 1].flatten(0, 1)
        return counts.round().long().flatten()

    @torch.no_grad()
    def after_step(self, told: Told, tokens: int) -> None:
        super().after_step(told, tokens)
        self.routing.lerp_(told["mean/routing"].to(self.routing), 1 - MOMENTUM)

    def cost(self, context: int) -> Cost:
        experts, heads = self.experts, self.config.n_heads
        own = sum(p.numel() for p in experts.parameters())
        matrices = experts.w_in.numel() + experts.w_out.numel() + experts.b_experts.numel()
        neurons = len(experts.w_in) // self.side
        met = 1 - (1 - self.config.k / self.side) ** heads  # share of the halves that are kept
        router = self.w_route.numel()
        executed = 2 * (router + matrices + 2 * heads * self.side * neurons)
        ideal = 2 * (router + met * matrices + 2 * heads * self.config.k * neurons)
        return Cost(router + round(met * own), executed, ideal)

    def initial_std(self) -> dict[str, float]:
        return {"w_route": self.w_route.shape[1] ** -0.5}

    def write_scale(self) -> float:
        return self.experts.write_scale()


def difference(after: Activations, before: Activations) -> Activations:
    """`after - before`, unit by unit; a unit that did not change keeps a slot of value 0."""
    after, before = same_slots(after, before)
    values = torch.cat([after.values, -before.values], -1)
    indices = torch.cat([after.indices, before.indices], -1)
    return Activations(*merge(values, indices, 2), after.n_units)
