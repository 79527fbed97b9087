"""Statistical top-k: a threshold from the mean and spread of a token's own pre-activations."""

from dataclasses import dataclass
from statistics import NormalDist

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import ConfigError
from pellucid.models.activations import Activations
from pellucid.models.filling import Told
from pellucid.models.mlp.sparse import SparseMLP
from pellucid.models.mlp.threshold import ThresholdMLP
from pellucid.models.moments import second_moment


class SparkMLP(ThresholdMLP):
    """`relu(z - θ) W_dec + b_dec`, `θ = mean(z) + std(z) · Φ⁻¹(1 - k / width)` (arXiv 2506.06644).

    z = x W_enc + b_enc; mean and deviation are over a token's units, so that about k of them are
    active with no sort, and the threshold is as causal as the token. All inputs score the units:
    the paper's cheap predictor is left out. Nothing is exact: given the active units, θ still bends
    with the input.
    """

    exactness = "none"

    @dataclass(frozen=True, kw_only=True)
    class Config(SparseMLP.Config):
        """One dial, k; the rest is shared with the other sparse rules."""

        def resolved_width(self, d_model: int) -> int:
            width = super().resolved_width(d_model)
            if self.k == width:
                raise ConfigError(
                    f"mlp.k is {self.k}; statistical top-k accepts at most {width - 1}, "
                    f"one less than the width"
                )
            return width

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)
        self.quantile = NormalDist().inv_cdf(1 - config.k / self.site.n_units)

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        z = F.linear(x, self.w_enc, self.b_enc)
        return self._units((z - self._threshold(z)).relu())

    def _threshold(self, z: Float[Tensor, "batch token unit"]) -> Float[Tensor, "batch token 1"]:
        wide = z.to(torch.promote_types(z.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, dim=-1, correction=0, keepdim=True)
        # Of equal pre-activations the root would have no gradient.
        deviation = (variance + torch.finfo(variance.dtype).tiny).sqrt()
        return (mean + deviation * self.quantile).to(z.dtype)

    def write_scale(self) -> float:
        return (self.site.n_units * second_moment(lambda z: F.relu(z - self.quantile))) ** 0.5
