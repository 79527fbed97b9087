"""Fillings of the `head` slot: from the normalized stream to logits."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.settings import fields
from pellucid.settings.fields import Configurable, setting


class Unembed(Configurable, nn.Module):
    """One vector per vocabulary entry; tied, it is the embedding itself."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        tied: bool = setting(False)
        """Share one matrix between embedding and unembedding."""

    def __init__(self, config: Config, embedding: nn.Embedding):
        super().__init__()
        self.config = config
        tied = embedding.weight if config.tied else nn.Parameter(torch.empty_like(embedding.weight))
        self.weight = tied

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        return F.linear(x, self.weight)


HEADS = {"unembed": Unembed}
