"""From the normalized stream to logits: what every head offers, and the plain one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pellucid.models.cache import LayerCache
from pellucid.models.filling import Cost, Told
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import Configurable, setting

Side = Mapping[str, Tensor]
"""What a corpus says of each token beside the text, such as `labels (batch, token)`."""


class Unembed(Configurable, nn.Module):
    """One vector per vocabulary entry; tied, it is the embedding itself.

    A bigram table adds logits that the current token alone decides (arXiv 2511.13653 §2). Other
    heads derive from this one: all end in `project`, which is linear.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """Parts of the corpus's side channel without which the head cannot be trained."""
    pointwise: ClassVar[bool] = True
    """Whether the logits of a position come from what the head reads there alone."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        tied: bool = setting(False)
        """Share one matrix between embedding and unembedding."""
        bigram: bool = setting(False)
        """Add a table of logits, vocabulary x vocabulary, looked up by the current token."""

        def check_width(self, d_model: int) -> None:
            """Raise ConfigError where the head cannot read a stream of this width."""

    def __init__(self, config: Config, embedding: nn.Embedding):
        super().__init__()
        self.config = config
        tied = embedding.weight if config.tied else nn.Parameter(torch.empty_like(embedding.weight))
        self.weight = tied
        if config.bigram:
            vocab = embedding.num_embeddings
            self.bigram = nn.Parameter(torch.empty(vocab, vocab))
        self.sites: dict[str, UnitSite] = {}

    def forward(
        self,
        x: Float[Tensor, "batch token d_model"],
        tokens: Int[Tensor, "batch token"],
        cache: LayerCache | None = None,
        side: Side | None = None,
    ) -> tuple[Float[Tensor, "batch token vocab"], Told]:
        """Logits of the normalized stream `x`, and what the head tells the trainer."""
        return self.with_bigrams(self.project(x), tokens), {}

    def split(
        self,
        x: Tensor,
        tokens: Tensor,
        cache: LayerCache | None = None,
        side: Side | None = None,
    ) -> tuple[Tensor, Told]:
        """The same through the head's sites, where one is in use."""
        return self.forward(x, tokens, cache, side)

    def project(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """What vectors of the normalized stream add to the logits, linearly (the logit lens)."""
        return F.linear(x, self.weight)

    def parts(
        self, x: Float[Tensor, "batch token d_model"], tokens: Int[Tensor, "batch token"]
    ) -> dict[str, Float[Tensor, "batch token vocab"]]:
        """The logits as a sum, by what adds them."""
        parts = {"stream": self.project(x)}
        return parts | self._bigram_part(tokens)

    def with_bigrams(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """The logits with those of the bigram table added, where there is one."""
        for part in self._bigram_part(tokens).values():
            logits = logits + part
        return logits

    def _bigram_part(self, tokens: Tensor) -> dict[str, Tensor]:
        return {"bigram": F.embedding(tokens, self.bigram)} if self.config.bigram else {}

    def initial_std(self) -> dict[str, float]:
        """As for fillings: deviations of parameters that `initialize` does not know by name."""
        return {"bigram": 0.02} if self.config.bigram else {}

    def after_drawing(self) -> None:
        """Set initial values that are made of others, once those are drawn."""

    def cost(self, context: int) -> Cost:
        """Parameters and operations of one token's logits."""
        row = self.weight.shape[0] if self.config.bigram else 0
        products = 2.0 * self.weight.numel()
        return Cost(self.weight.numel() + row, products + row, products + row)
