"""Codebook attention: the output of every head is replaced by codes."""

from dataclasses import dataclass

import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from pellucid.models.activations import Activations
from pellucid.models.attention.heads import MIXED
from pellucid.models.attention.softmax import SoftmaxAttention
from pellucid.models.cache import LayerCache
from pellucid.models.codebook import Codebook, Codes, of_codebook
from pellucid.models.filling import Cost, Rule, Told
from pellucid.models.position import Rotation
from pellucid.models.units import UnitSite

MATRICES_LR = 3.0
"""Learning rate of the four matrices, in those of the other weights: behind codes that move, heads
come late at the usual rate (4.105 nats after 300 steps of `tiny`, 4.041 at this one)."""


class CodebookAttention(SoftmaxAttention):
    """Softmax attention; of each head's output the mean of its k nearest codes goes on to `w_o`.

    Codebook features at their default place (arXiv 2310.17230): one codebook for each head.
    Units are codes, those of head h being `h * codes … (h + 1) * codes - 1`, and each writes itself
    through its head's part of `w_o`. The attention edges are the site `attention.edges`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Codes, SoftmaxAttention.Config):
        """The softmax attention's settings, then those of the codes."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)
        self.codebook = HeadCodebook(
            config, d_model, kind="attention", groups=config.n_heads, write=self._directions
        )
        self.more_sites = {**self.more_sites, "edges": self.site}
        self.site: UnitSite = self.codebook.site

    def _directions(self) -> Float[Tensor, "unit d_model"]:
        codes = rearrange(
            self.codebook.w_dec, "(head code) d -> head code d", head=self.config.n_heads
        )
        w_o = rearrange(self.w_o, "d_model (head d) -> head d d_model", head=self.config.n_heads)
        written = einsum(codes, w_o, "head code d, head d d_model -> head code d_model")
        return rearrange(written, "head code d_model -> (head code) d_model")

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        source: Tensor | None = None,
    ) -> tuple[Tensor, Told]:
        mixed = self._mix(*self._read(x, rotation, cache, source))
        return self._say(*self.codebook(self._joined(mixed)))

    def split(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        source: Tensor | None = None,
    ) -> tuple[Tensor, Told]:
        """By way of the edges, then of the codes."""
        q, k, v = self._read(x, rotation, cache, source, seen=True)
        acts = Activations(self.edges(q, k)[0], n_units=self.config.n_heads)
        mixed = self.more_sites["edges"](acts).values.to(v.dtype) @ v
        return self._say(*self.codebook.split(self._joined(mixed)))

    def _say(self, message: Tensor, told: Told) -> tuple[Tensor, Told]:
        return F.linear(message, self.w_o, self.b_o), of_codebook(told)

    def rules(self) -> dict[str, Rule]:
        return dict.fromkeys(("w_q", "w_k", "w_v", "w_o"), Rule(lr=MATRICES_LR))

    def cost(self, context: int) -> Cost:
        return super().cost(context) + self.codebook.cost(context)


class HeadCodebook(Codebook):
    """Codes that start with the size of what a softmax head mixes."""

    def initial_std(self) -> dict[str, float]:
        return {"w_dec": MIXED / self.write_scale()}
