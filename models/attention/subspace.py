"""Multi-head subspace self-attention: queries, keys and values are one projection (CRATE)."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from pellucid.models.attention.softmax import SoftmaxAttention
from pellucid.models.cache import LayerCache
from pellucid.models.filling import Rule, Told
from pellucid.models.position import Rotation
from pellucid.settings.fields import setting


class SubspaceAttention(SoftmaxAttention):
    """`softmax(p pᵀ / √d_head) p` with one projection p per head (arXiv 2306.01129, 2410.16443).

    A token's score with itself is |p|² / √d_head, with others it is about 0 at first. Projections
    start as the authors' do, with variance 1 / 3 d_model: then heads do not see themselves alone.
    """

    places = ()

    @dataclass(frozen=True, kw_only=True)
    class Config(SoftmaxAttention.Config):
        """As for softmax attention; queries, keys and values are the same and have no bias."""

        recipe: ClassVar[tuple[str, ...]] = ("train.lr=2x",)
        lr: float = setting(1.0, above=0.0)
        """Learning rate of both matrices, in those of the other weights."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)
        del self.w_k, self.w_v
        self.b_q = self.b_k = self.b_v = None
        self.more_sites = {}

    def _project(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p = F.linear(x, self.w_q)
        return p, p, p

    def forward(
        self, x: Tensor, rotation: Rotation | None = None, cache: LayerCache | None = None
    ) -> tuple[Tensor, Told]:
        # Without `source`: keys and values of one projection cannot come from two streams.
        return super().forward(x, rotation, cache)

    def initial_std(self) -> dict[str, float]:
        return {"w_q": (3 * self.w_q.shape[1]) ** -0.5}

    def write_scale(self) -> float:
        # Values of variance 1 / 3.
        return super().write_scale() / 3**0.5

    def rules(self) -> dict[str, Rule]:
        return dict.fromkeys(("w_q", "w_o"), Rule(lr=self.config.lr))
