"""Mixture of Decoders: many experts that are whole linear maps, at the price of two vectors each."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.models.activations import Activations
from pellucid.models.filling import Cost, Told
from pellucid.models.firing import Firing, fired
from pellucid.models.mlp.slots import decode_slots, encode_slots
from pellucid.models.moments import second_moment, tail_second_moment
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting


class MixtureOfDecoders(Firing):
    """`y = (a C) ⊙ (z D) + b` with gates `a = topk(relu(x G + b_g))` and `z = gelu(x W_in + b_in)`.

    That is `Σ_n a_n z D_n + b`, `D_n = D diag(c_n)` an expert's own map of full rank
    (arXiv 2505.21364): `w_gate`, `w_scale`, `w_out` are G, C, D. Units are experts; removing one
    removes exactly `a_n (z D) ⊙ c_n`. It has no one direction that it writes. The site `hidden` has
    the neurons z that all experts read.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        k: int = setting(32, low=1)
        """Active experts per token."""
        experts: int | None = setting(None, low=1)
        """Experts; none gives 8 x d_model."""
        width: int | None = setting(None, low=1)
        """Hidden neurons that the experts share; none gives 4 x d_model."""

        def resolved_experts(self, d_model: int) -> int:
            """Number of experts; raises ConfigError where there are fewer than k."""
            experts = 8 * d_model if self.experts is None else self.experts
            if self.k > experts:
                raise ConfigError(f"mlp.k is {self.k}; at most mlp.experts, {experts}, is accepted")
            return experts

        def resolved_width(self, d_model: int) -> int:
            self.resolved_experts(d_model)
            return 4 * d_model if self.width is None else self.width

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        experts, width = config.resolved_experts(d_model), config.resolved_width(d_model)
        self.w_gate = nn.Parameter(torch.empty(experts, d_model))
        self.b_gate = nn.Parameter(torch.zeros(experts))
        self.w_scale = nn.Parameter(torch.empty(experts, d_model))
        self.w_in = nn.Parameter(torch.empty(width, d_model))
        self.b_in = nn.Parameter(torch.zeros(width))
        self.w_out = nn.Parameter(torch.empty(width, d_model))
        self.b_out = nn.Parameter(torch.zeros(d_model))
        self.count_firing(experts)
        self.site = UnitSite(
            "mlp",
            experts,
            signed=False,
            exactness="unit-ablation-exact",
            takes_rest=True,
            read=lambda: self.w_gate,
        )
        hidden = UnitSite("mlp", width, signed=True, exactness="none", read=lambda: self.w_in)
        self.more_sites = {"hidden": hidden}

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        gates = encode_slots(x, self.w_gate, self.b_gate, self.config.k)
        return gates, {"sum/fired": fired(gates.indices, self.site.n_units)}

    def hidden(self, x: Float[Tensor, "batch token d_model"]) -> Activations:
        """The neurons that all experts read."""
        z = F.gelu(F.linear(x, self.w_in, self.b_in))
        return Activations(z, n_units=len(self.w_in))

    def decode(
        self, acts: Activations, hidden: Activations
    ) -> Float[Tensor, "batch token d_model"]:
        scale = decode_slots(acts, self.w_scale)
        return scale * F.linear(hidden.to_dense(), self.w_out.T) + self.b_out.to(scale.dtype)

    def forward(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        acts, told = self.encode(x)
        return self.decode(acts, self.hidden(x)), told

    def split(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        acts, told = self.encode(x)
        hidden = self.more_sites["hidden"](self.hidden(x))
        return self.decode(self.site(acts), hidden), told

    def expert(self, unit: int) -> Float[Tensor, "d_hidden d_model"]:
        """The map `D_n = D diag(c_n)` of one expert: it writes `a_n z D_n`."""
        return self.w_out * self.w_scale[unit]

    def cost(self, context: int) -> Cost:
        (experts, d_model), width = self.w_gate.shape, len(self.w_in)
        rows = d_model * self.config.k
        matrices = d_model * (experts + 2 * width) + rows
        return Cost(matrices + experts + width + d_model, 2 * matrices, 2 * matrices, rows)

    def initial_std(self) -> dict[str, float]:
        """The active experts' scales add up to unit variance."""
        experts, d_model = self.w_gate.shape
        active = experts * tail_second_moment(min(self.config.k / experts, 0.5))
        return {"w_gate": d_model**-0.5, "w_scale": active**-0.5}

    def write_scale(self) -> float:
        return (len(self.w_in) * second_moment(F.gelu)) ** 0.5
