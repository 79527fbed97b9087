"""A top-k layer beside a linear map: what is linear need not be spelled by units."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.filling import Cost, Told, under_autocast
from pellucid.models.mlp.topk import TopKMLP


class SkipTopKMLP(TopKMLP):
    """`relu(topk(x W_enc + b_enc)) W_dec + x W_skip + b_dec`: a skip transcoder (arXiv 2501.18823).

    Given which units are active it is an affine map of its input. The linear part belongs to no
    unit, and starts at 0.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(TopKMLP.Config):
        """As for topk."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)
        self.w_skip = nn.Parameter(torch.zeros(d_model, d_model))

    def forward(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        y, told = super().forward(x)
        return y + self.skip(x), told

    def split(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        y, told = super().split(x)
        return y + self.skip(x), told

    def skip(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The linear part of what the layer writes."""
        rows, w_skip = under_autocast(x, self.w_skip)
        return F.linear(rows, w_skip)

    def cost(self, context: int) -> Cost:
        matrix = self.w_skip.numel()
        return super().cost(context) + Cost(matrix, 2 * matrix, 2 * matrix)
