"""ReLU MLPs, plain or gated, that an L1 loss on the hidden layer makes sparse."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.activations import Activations
from pellucid.models.filling import Cost, Told
from pellucid.models.mlp.threshold import ThresholdMLP
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting


class ReLUL1MLP(ThresholdMLP):
    """`relu(x W_enc + b_enc) W_dec + b_dec`; gated, the hidden layer is multiplied by `x W_up`.

    `l1` times the sum of |hidden| over units, as a mean over tokens, is added to the loss for each
    layer (arXiv 2603.23198). Plain, the layer is affine in its input while the same units are
    active; gated, it is not, and nothing is exact.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        activation: Literal["relu", "gated_relu"] = setting("relu")
        """Non-linearity of the hidden layer; gated_relu multiplies it by a second product."""
        width: int | None = setting(None, low=1)
        """Units; none gives 4 x d_model (8/3 x d_model if gated, at equal parameters)."""
        l1: float = setting(3e-4, low=0.0)
        """Weight in the loss of the hidden layer's absolute sum."""

        def resolved_width(self, d_model: int) -> int:
            if self.width is not None:
                return self.width
            return 4 * d_model if self.activation == "relu" else round(d_model / 3) * 8 or 8

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)
        if config.activation == "gated_relu":
            self.w_up = nn.Parameter(torch.empty_like(self.w_enc))
            self.site = UnitSite(
                "mlp", len(self.w_up), signed=True, exactness="none", write=lambda: self.w_dec
            )

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        hidden = F.linear(x, self.w_enc, self.b_enc).relu()
        if self.config.activation == "gated_relu":
            hidden = hidden * F.linear(x, self.w_up)
        acts, told = self._units(hidden)
        # A mean over tokens: what the parts of a split batch tell adds up to what the whole does.
        size = hidden.abs().sum(-1, dtype=torch.promote_types(hidden.dtype, torch.float32))
        return acts, told | {"loss/l1": self.config.l1 * size.mean()}

    def cost(self, context: int) -> Cost:
        """The ideal is that of the first step, where half of the units are active."""
        width, d_model = self.w_enc.shape
        matrices = width * d_model * (3 if self.config.activation == "gated_relu" else 2)
        silent = width * d_model * (1 if self.config.activation == "gated_relu" else 0.5)
        active = sum(p.numel() for p in self.parameters()) - int(silent)
        return Cost(active, 2 * matrices, 2 * (matrices - silent))

    def write_scale(self) -> float:
        # Half of a unit-normal variable's variance is above zero; a gate multiplies it by 1.
        return (self.site.n_units / 2) ** 0.5
