"""A concept bottleneck: logits are known concepts plus free ones plus what neither explains."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.data.python_labels import LOOP
from pellucid.errors import ConfigError
from pellucid.kernels import sparse_decode, topk_rows
from pellucid.models.activations import Activations
from pellucid.models.cache import LayerCache
from pellucid.models.filling import Cost, Told, under_autocast
from pellucid.models.head.unembed import Side, Unembed
from pellucid.models.units import UnitSite
from pellucid.settings.fields import setting

FIRST_ALPHA = 0.9
"""At 1 the code would cancel out of the logits, and learn nothing from the first step."""


class ConceptHead(Unembed):
    """`logits = U (E c + α ε)` for a sparse code c of concepts (arXiv 2502.08524, CB-LLM 2412.07992).

    The first units are known concepts, taught from the corpus's labels (`side["labels"]`, the bits
    of a token's labels, -1 where it has none); the others are free.
    ε = x - E c is what the code leaves out: its weight α falls from 0.9 to `epsilon` over the first
    `anneal` of the training, and the share of the logits' variance that it carries is told, because
    a bottleneck with a way around it is none.
    """

    needs: ClassVar[tuple[str, ...]] = ("labels",)

    @dataclass(frozen=True, kw_only=True)
    class Config(Unembed.Config):
        n_known: int = setting(len(LOOP), low=1, high=len(LOOP))
        """Concepts with labels: the first ones of `data.labels=loop`."""
        n_free: int = setting(512, low=1)
        """Concepts that find their own meaning."""
        k_free: int = setting(32, low=1)
        """Free concepts active per token; every known concept may be."""
        epsilon: float = setting(0.0, low=0.0, high=1.0)
        """Weight of what the concepts leave out, at the end."""
        anneal: float = setting(0.5, low=0.0, high=1.0)
        """Share of the training over which that weight falls from 0.9."""
        label_weight: float = setting(0.1, low=0.0)
        """Weight of the known concepts' cross-entropy in the loss."""

        def check(self) -> None:
            if self.k_free > self.n_free:
                raise ConfigError(
                    f"k_free is {self.k_free}; at most n_free, {self.n_free}, is accepted"
                )

    def __init__(self, config: Config, embedding: nn.Embedding):
        super().__init__(config, embedding)
        d_model, width = embedding.embedding_dim, config.n_known + config.n_free
        self.concepts_in = nn.Parameter(torch.empty(width, d_model))
        self.b_enc = nn.Parameter(torch.zeros(width))
        self.concepts_out = nn.Parameter(torch.empty(width, d_model))
        self.register_buffer("alpha", torch.tensor(FIRST_ALPHA))
        site = UnitSite(
            "head",
            width,
            signed=False,
            exactness="logit-split-exact",
            write=lambda: self.concepts_out,
            read=lambda: self.concepts_in,
        )
        self.sites = {"concepts": site}
        self.known = LOOP[: config.n_known]

    @torch.no_grad()
    def before_step(self, progress: float) -> None:
        """The weight of what the concepts leave out, a function of the training's share alone."""
        last, anneal = self.config.epsilon, self.config.anneal
        left = max(0.0, 1 - progress / anneal) if anneal else 0.0
        self.alpha.fill_(last + (FIRST_ALPHA - last) * left)

    def _scores(self, x: Tensor) -> Tensor:
        return F.linear(x, self.concepts_in, self.b_enc)

    def _code(self, scores: Float[Tensor, "batch token concept"]) -> Activations:
        """Known concepts by their sigmoid, all of them; of the free ones the k largest."""
        known, free = scores.split([self.config.n_known, self.config.n_free], dim=-1)
        values, indices = topk_rows(free.flatten(0, 1), self.config.k_free, relu=True)
        n = self.config.n_known
        names = torch.arange(n, device=scores.device, dtype=torch.int32).expand(len(indices), -1)
        values = torch.cat([known.sigmoid().flatten(0, 1), values], dim=-1)
        indices = torch.cat([names, torch.where(indices < 0, indices, indices + n)], dim=-1)
        rows = scores.shape[:2]
        return Activations(values.unflatten(0, rows), indices.unflatten(0, rows), self.site.n_units)

    @property
    def site(self) -> UnitSite:
        """The concepts, known ones first."""
        return self.sites["concepts"]

    def _decode(self, acts: Activations) -> Tensor:
        (weight,) = under_autocast(self.concepts_out)
        y = sparse_decode(acts.values.flatten(0, 1), acts.indices.flatten(0, 1), weight)
        return y.unflatten(0, acts.values.shape[:2])

    def forward(
        self,
        x: Tensor,
        tokens: Tensor,
        cache: LayerCache | None = None,
        side: Side | None = None,
    ) -> tuple[Tensor, Told]:
        scores = self._scores(x)
        code = self._code(scores)
        return self._logits(x, tokens, code, code, scores, side)

    def split(
        self,
        x: Tensor,
        tokens: Tensor,
        cache: LayerCache | None = None,
        side: Side | None = None,
    ) -> tuple[Tensor, Told]:
        scores = self._scores(x)
        code = self._code(scores)
        return self._logits(x, tokens, code, self.site(code), scores, side)

    def _logits(
        self,
        x: Tensor,
        tokens: Tensor,
        code: Activations,
        edited: Activations,
        scores: Tensor,
        side: Side | None,
    ) -> tuple[Tensor, Told]:
        # What is left out is so of the layer's own code: an edit moves the logits, not the rest.
        decoded = self._decode(code)
        rest = self.alpha.to(x.dtype) * (x - decoded)
        written = decoded if edited is code else self._decode(edited)
        logits = self.with_bigrams(self.project(written + rest), tokens)
        told = {"mean/epsilon_share": self._share(rest, written)}
        return logits, told | self._taught(scores, side)

    @torch.no_grad()
    def _share(self, rest: Tensor, written: Tensor) -> Tensor:
        """Share of the logits' variance over the vocabulary that is neither concept's."""
        each = [self.project(part).float().var(dim=-1).mean() for part in (rest, written)]
        return each[0] / (each[0] + each[1]).clamp_min(1e-30)

    def _taught(self, scores: Tensor, side: Side | None) -> Told:
        if side is None or "labels" not in side:
            return {}
        n, bits = self.config.n_known, side["labels"]
        held = (bits[..., None] >> torch.arange(n, device=bits.device)) & 1
        scores = scores[..., :n] if scores.dtype == torch.float64 else scores[..., :n].float()
        each = F.binary_cross_entropy_with_logits(scores, held.to(scores.dtype), reduction="none")
        # Over all tokens, those without a label too: only then do micro-batches add up.
        loss = torch.where(bits[..., None] >= 0, each, 0.0).sum() / each.numel()
        return {"loss/concepts": self.config.label_weight * loss}

    def parts(self, x: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        acts = self._code(self._scores(x))
        n = self.config.n_known
        known = Activations(acts.values[..., :n], acts.indices[..., :n], acts.n_units)
        free = Activations(acts.values[..., n:], acts.indices[..., n:], acts.n_units)
        rest = self.alpha.to(x.dtype) * (x - self._decode(acts))
        parts = {"known": self._decode(known), "free": self._decode(free), "epsilon": rest}
        projected = {name: self.project(part) for name, part in parts.items()}
        return projected | self._bigram_part(tokens)

    def initial_std(self) -> dict[str, float]:
        d_model = self.concepts_in.shape[1]
        std = d_model**-0.5
        return super().initial_std() | {"concepts_in": std, "concepts_out": std}

    def after_drawing(self) -> None:
        # Concepts write at first what they read, as in sparse autoencoders (2406.04093): the code
        # then stands for the stream before it has learned to, and ε is what it leaves out.
        self.concepts_out.copy_(self.concepts_in)

    def cost(self, context: int) -> Cost:
        d_model = self.concepts_in.shape[1]
        active = (self.config.n_known + self.config.k_free) * d_model
        products = 2.0 * (self.concepts_in.numel() + active)
        used = self.concepts_in.numel() + self.b_enc.numel() + active
        return super().cost(context) + Cost(used, products, products, active)
