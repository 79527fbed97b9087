"""Sparse layers beside a linear map: what is linear need not be spelled by units."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.filling import Cost, Told, under_autocast
from pellucid.models.mlp.sparse import SparseMLP
from pellucid.models.mlp.threshold import BatchTopKMLP
from pellucid.models.mlp.topk import TopKMLP


class SkipMLP(SparseMLP):
    """What skip transcoders share: a linear map beside units of the rule of the class beside it.

    Given which units are active the layer is an affine map of its input. The linear part belongs to
    no unit, and starts at 0.
    """

    def __init__(self, config: SparseMLP.Config, d_model: int):
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


class SkipTopKMLP(SkipMLP, TopKMLP):
    """`relu(topk(x W_enc + b_enc)) W_dec + x W_skip + b_dec`: a skip transcoder (arXiv 2501.18823)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(TopKMLP.Config):
        """As for topk."""


class SkipBatchTopKMLP(SkipMLP, BatchTopKMLP):
    """A skip transcoder whose units are the k·tokens largest of a batch (arXiv 2412.06410).

    In evaluation they are those above a threshold.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BatchTopKMLP.Config):
        """As for batch_topk."""
