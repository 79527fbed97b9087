"""Layers that write to their own and to later layers: the parts of a cross-layer transcoder."""

from dataclasses import dataclass

import torch
from torch import nn

from pellucid.models.mlp.sparse import SparseMLP
from pellucid.models.mlp.threshold import BatchTopKMLP
from pellucid.models.mlp.topk import TopKMLP
from pellucid.models.units import UnitSite
from pellucid.settings.fields import setting


class ReachingMLP(SparseMLP):
    """What they share: W_dec is `(unit, reach x d_model)`; units speak by the class beside it.

    The first d_model columns are for this layer, the next for the one after it, and so on
    (a transcoder, arXiv 2406.11944, with a decoder for each layer that it reaches). What a
    unit writes in all, its direction, is their sum. The stream slot carries it there.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SparseMLP.Config):
        reach: int = setting(1, low=1)
        """Layers that it writes to, itself the first."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)
        width, columns = self.site.n_units, config.reach * d_model
        self.w_dec = nn.Parameter(torch.empty(width, columns))
        self.b_dec = nn.Parameter(torch.zeros(columns))
        self.site = UnitSite(
            "mlp",
            width,
            signed=self.signed,
            exactness=self.exactness,
            takes_rest=True,
            write=lambda: self.w_dec.view(width, config.reach, d_model).sum(1),
            read=lambda: self.w_enc,
        )

    def write_scale(self) -> float:
        """What a unit writes in all has the size that other layers' units write."""
        return super().write_scale() * self.config.reach**0.5


class CrossLayerMLP(ReachingMLP, TopKMLP):
    """`relu(topk(x W_enc + b_enc)) W_dec + b_dec`; `stream=crosslayer` carries it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ReachingMLP.Config, TopKMLP.Config):
        """As for topk, and how far it reaches."""


class CrossLayerBatchTopKMLP(ReachingMLP, BatchTopKMLP):
    """The same with the k·tokens largest of a batch; `stream=crosslayer_batch_topk` carries it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ReachingMLP.Config, BatchTopKMLP.Config):
        """As for batch_topk, and how far it reaches."""
