"""Memory layers: values looked up by product keys in one table that layers share (2412.09764)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.models.activations import Activations, canonical
from pellucid.models.filling import Cost, Rule, Told, under_autocast
from pellucid.models.firing import Firing, fired
from pellucid.models.mlp.lookup import (
    ProductKeys,
    QueryNorm,
    check_k,
    key_width,
    merged_energy,
    side_of,
)
from pellucid.models.mlp.slots import decode_slots
from pellucid.models.moments import second_moment
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting


class MemoryMLP(Firing):
    """`(Σ_heads Σ_i softmax(s)_i value_i ⊙ silu(x W_gateᵀ)) W_out` over the k best slots i.

    Each layer has queries, keys and a gate of its own; the values are one table, the model's
    `shared.memory`. Units are slots, their activation the sum of their heads' gates. Removing one
    removes exactly what it wrote; as the gate decides in which directions that is, a slot has no
    single write direction.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        n_slots: int = setting(4096, low=1, high=2**30)
        """Slots of the shared table, a square number: each is named by a pair of keys."""
        k: int = setting(8, low=1)
        """Slots that each head reads."""
        n_heads: int = setting(4, low=1)
        """Heads, each with a query and keys of its own."""
        d_key: int | None = setting(None, low=2)
        """Channels of a query, an even number; none gives d_model / n_heads."""
        d_value: int | None = setting(None, low=1)
        """Channels of a value; none gives d_model."""
        query_norm: QueryNorm = setting("rms")
        """rms divides each half query by its root mean square; batch standardizes its channels by
        running statistics."""
        values_lr: float = setting(3.0, above=0.0)
        """Learning rate of the values as a multiple of all others': few tokens read any one."""
        values_clip: float = setting(1.0, above=0.0)
        """Largest norm of the gradient of the values, which is clipped by itself."""

        def resolved_width(self, d_model: int) -> int:
            side = side_of(self.n_slots, "mlp.n_slots")
            check_k(self.k, side, "mlp.k")
            key_width(self.d_key, self.n_heads, d_model)
            return self.n_slots

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        width = config.resolved_width(d_model)
        d_key = key_width(config.d_key, config.n_heads, d_model)
        self.side = side_of(width, "mlp.n_slots")
        self.keys = ProductKeys(
            d_model, config.n_heads, d_key, self.side, config.k, config.query_norm
        )
        d_value = d_model if config.d_value is None else config.d_value
        self.w_gate = nn.Parameter(torch.empty(d_value, d_model))
        self.w_out = nn.Parameter(torch.empty(d_value, d_model))
        self.count_firing(width)
        self.site = UnitSite(
            "mlp", width, signed=False, exactness="unit-ablation-exact", takes_rest=True
        )

    def borrow(self, shared: nn.ModuleDict) -> None:
        """Make the table, or take it; raises ConfigError where it is of another size or rule."""
        config, d_value = self.config, len(self.w_gate)
        if "memory" not in shared:
            rule = Rule(lr=config.values_lr, decay=0.0, clip=config.values_clip)
            shared["memory"] = MemoryTable(config.n_slots, d_value, rule)
        table = shared["memory"]
        table.check(config.n_slots, d_value, config.values_lr, config.values_clip)
        self.table = (table,)

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        gates, slots, told = self.keys.merged(x)
        acts = canonical(*under_autocast(gates), slots, self.site.n_units)
        return acts, told | {"sum/fired": fired(acts.indices, acts.n_units)}

    def decode(
        self, acts: Activations, x: Float[Tensor, "batch token d_model"]
    ) -> Float[Tensor, "batch token d_model"]:
        """What slots write depends on the layer's input, too, through the gate."""
        read = decode_slots(acts, self.table[0].values)
        return F.linear(read * F.silu(F.linear(x, self.w_gate)), self.w_out.T)

    def forward(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        acts, told = self.encode(x)
        return self.decode(acts, x), told

    def split(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        acts, told = self.encode(x)
        return self.decode(self.site(acts), x), told

    def cost(self, context: int) -> Cost:
        read = self.config.n_heads * self.config.k * len(self.w_gate)
        rest = self.w_gate.numel() + self.w_out.numel()
        active = sum(p.numel() for p in self.keys.parameters()) + read + rest
        flops = self.keys.flops() + 2.0 * (read + rest)
        return Cost(active, flops, flops, read)

    def initial_std(self) -> dict[str, float]:
        return {"w_gate": self.w_gate.shape[1] ** -0.5}

    def write_scale(self) -> float:
        gates = merged_energy(self.side, self.config.k, self.config.n_heads)
        return (gates * second_moment(F.silu)) ** 0.5


class MemoryTable(nn.Module):
    """The values that all memory layers read, `(slot, d_value)`; counted and trained once."""

    def __init__(self, n_slots: int, d_value: int, rule: Rule):
        super().__init__()
        self.rule = rule
        self.values = nn.Parameter(torch.empty(n_slots, d_value))

    def check(self, n_slots: int, d_value: int, lr: float, clip: float) -> None:
        """Raise ConfigError where a layer asks for another table than the first one did."""
        has = (*self.values.shape, self.rule.lr, self.rule.clip)
        names = ("n_slots", "d_value", "values_lr", "values_clip")
        for name, first, asked in zip(names, has, (n_slots, d_value, lr, clip), strict=True):
            if first != asked:
                raise ConfigError(
                    f"mlp.{name} is {asked} in one layer and {first} in an earlier one; memory "
                    f"layers share one table, so that one value for all of them is accepted"
                )

    def initial_std(self) -> dict[str, float]:
        """Values of unit length, so that one read alone has it."""
        return {"values": self.values.shape[1] ** -0.5}

    def rules(self) -> dict[str, Rule]:
        """A learning rate of their own, no decay (most are not read in a step), a clip alone."""
        return {"values": self.rule}
