"""PEER: experts of one neuron, chosen by product keys from a table of many (arXiv 2407.04153)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.activations import Activations, canonical
from pellucid.models.filling import Cost, Rule, Told
from pellucid.models.firing import Firing, fired
from pellucid.models.mlp.lookup import (
    ProductKeys,
    QueryNorm,
    check_k,
    key_width,
    merged_energy,
    side_of,
)
from pellucid.models.mlp.slots import decode_slots, products_at
from pellucid.models.moments import second_moment
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}


class PeerMLP(Firing):
    """`Σ_heads Σ_e softmax(s)_e act(u_e · x) v_e` over the k best experts e of each head.

    All heads choose from one table: an expert that several heads chose speaks once, with the sum
    of its gates. Units are experts, their activation `gate · act(u_e · x)`; removing one removes
    exactly what it wrote.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        n_experts: int | None = setting(None, low=1, high=2**30)
        """Experts, a square number: each is named by a pair of keys; none gives the square nearest
        to 32 x d_model."""
        k: int = setting(8, low=1)
        """Experts that each head chooses."""
        n_heads: int = setting(4, low=1)
        """Heads, each with a query and keys of its own."""
        d_key: int | None = setting(None, low=2)
        """Channels of a query, an even number; none gives d_model / n_heads."""
        query_norm: QueryNorm = setting("rms")
        """rms divides each half query by its root mean square; batch standardizes its channels by
        running statistics."""
        activation: Literal["gelu", "relu"] = setting("gelu")
        """Non-linearity of the experts."""
        write_lr: float = setting(15.0, above=0.0)
        """Learning rate of what experts write as a multiple of all others': gates are small, and so
        these weights start larger than a dense layer's."""

        def resolved_width(self, d_model: int) -> int:
            width = round((32 * d_model) ** 0.5) ** 2 if self.n_experts is None else self.n_experts
            check_k(self.k, side_of(width, "mlp.n_experts"), "mlp.k")
            key_width(self.d_key, self.n_heads, d_model)
            return width

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        width = config.resolved_width(d_model)
        d_key = key_width(config.d_key, config.n_heads, d_model)
        self.side = side_of(width, "mlp.n_experts")
        self.keys = ProductKeys(
            d_model, config.n_heads, d_key, self.side, config.k, config.query_norm
        )
        self.w_in = nn.Parameter(torch.empty(width, d_model))
        self.w_out = nn.Parameter(torch.empty(width, d_model))
        self.b_out = nn.Parameter(torch.zeros(d_model))
        self.count_firing(width)
        self.site = UnitSite(
            "mlp",
            width,
            signed=config.activation != "relu",
            exactness="unit-ablation-exact",
            takes_rest=True,
            write=lambda: self.w_out,
            read=lambda: self.w_in,
        )

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        gates, experts, told = self.keys.merged(x)
        hidden = ACTIVATIONS[self.config.activation](products_at(x, self.w_in, experts))
        acts = canonical(gates.to(hidden.dtype) * hidden, experts, self.site.n_units)
        return acts, told | {"sum/fired": fired(acts.indices, acts.n_units)}

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        y = decode_slots(acts, self.w_out)
        return y + self.b_out.to(y.dtype)

    def cost(self, context: int) -> Cost:
        rows = 2 * self.config.n_heads * self.config.k * self.w_in.shape[1]
        active = sum(p.numel() for p in self.keys.parameters()) + rows + self.b_out.numel()
        flops = self.keys.flops() + 2 * rows
        return Cost(active, flops, flops, rows)

    def rules(self) -> dict[str, Rule]:
        return {"w_out": Rule(lr=self.config.write_lr)}

    def write_scale(self) -> float:
        gates = merged_energy(self.side, self.config.k, self.config.n_heads)
        return (gates * second_moment(ACTIVATIONS[self.config.activation])) ** 0.5
