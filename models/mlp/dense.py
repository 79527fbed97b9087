"""The dense MLP: the baseline of every comparison, and a value of the slot like any other."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.activations import Activations
from pellucid.models.filling import Cost, Filling, Told
from pellucid.models.moments import second_moment
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting


class DenseMLP(Filling):
    """`act(x W_in + b_in) W_out + b_out`; SwiGLU (arXiv 2002.05202) multiplies by `x W_up + b_up`.

    Units are hidden neurons. Nothing about them is exact but their basis.
    """

    places = ("mlp_neuron",)

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        activation: Literal["gelu", "relu", "swiglu"] = setting("gelu")
        """Non-linearity of the hidden neurons."""
        width: int | None = setting(None, low=1)
        """Hidden neurons; none gives 4 x d_model (8/3 x d_model for swiglu, at equal parameters)."""

        def resolved_width(self, d_model: int) -> int:
            if self.width is not None:
                return self.width
            return 4 * d_model if self.activation != "swiglu" else round(8 * d_model / 3 / 8) * 8

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        width = config.resolved_width(d_model)
        self.w_in = nn.Parameter(torch.empty(width, d_model))
        self.b_in = nn.Parameter(torch.zeros(width))
        if config.activation == "swiglu":
            self.w_up = nn.Parameter(torch.empty(width, d_model))
            self.b_up = nn.Parameter(torch.zeros(width))
        self.w_out = nn.Parameter(torch.empty(width, d_model))
        self.b_out = nn.Parameter(torch.zeros(d_model))
        gated = config.activation == "swiglu"
        self.site = UnitSite(
            "mlp",
            width,
            signed=config.activation != "relu",
            exactness="none",
            write=lambda: self.w_out,
            read=None if gated else lambda: self.w_in,
        )

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        pre = F.linear(x, self.w_in, self.b_in)
        if self.config.activation == "swiglu":
            hidden = F.silu(pre) * F.linear(x, self.w_up, self.b_up)
        else:
            hidden = F.relu(pre) if self.config.activation == "relu" else F.gelu(pre)
        hidden = self.sparsify("mlp_neuron", hidden)
        return Activations(hidden, n_units=self.site.n_units), {}

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        return F.linear(acts.to_dense(), self.w_out.T, self.b_out)

    def cost(self, context: int) -> Cost:
        matrices = self.w_in.numel() * (3 if self.config.activation == "swiglu" else 2)
        active = sum(p.numel() for p in self.parameters())
        return Cost(active, 2 * matrices, 2 * matrices)

    def write_scale(self) -> float:
        width = self.site.n_units
        if self.config.activation == "swiglu":
            return (width * second_moment(F.silu)) ** 0.5
        return (
            width * second_moment(F.relu if self.config.activation == "relu" else F.gelu)
        ) ** 0.5
