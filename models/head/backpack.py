"""Backpack: logits are a weighted sum of sense vectors that know nothing of their context."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.models.activations import Activations
from pellucid.models.attention.softmax import causal
from pellucid.models.cache import LayerCache
from pellucid.models.filling import Cost, Rule, Told
from pellucid.models.head.unembed import Side, Unembed
from pellucid.models.units import UnitSite
from pellucid.settings.fields import setting

WEIGHTS_LR = 4.0
"""Learning rate of queries and keys, in those of the other weights: each sense has few channels of
them, and senses are told apart by α alone."""


class Backpack(Unembed):
    """`o_t = Σ_sense Σ_{s<=t} α_sense(t, s) · S_sense(token_s)`, logits `E o_t` (arXiv 2305.16765).

    Sense vectors S come from the token alone, weights α >= 0 from the transformer. Hence a logit is
    exactly the sum over senses and source positions of α times a fixed number per (token, sense).
    Units are senses, in two sites: `senses` shows their weights α `(batch, sense, query, key)`,
    `strengths` the norm of what each writes at a token, which an edit makes longer or shorter. The
    sense network is the authors': `r = e + norm(e)`, `r' = r + mlp(norm(r))`, `S = mlp(norm(r'))`
    for an embedding e.
    """

    pointwise = False

    @dataclass(frozen=True, kw_only=True)
    class Config(Unembed.Config):
        tied: bool = setting(True)
        """Share one matrix between embedding and unembedding."""
        n_senses: int = setting(16, low=1)
        """Sense vectors of each token, as many as the authors have; must divide d_model."""
        hidden: int | None = setting(None, low=1)
        """Hidden width of the two layers of the sense network; none gives 4 x d_model."""

        def check_width(self, d_model: int) -> None:
            if d_model % self.n_senses:
                raise ConfigError(
                    f"head.n_senses is {self.n_senses}; a divisor of d_model ({d_model}) is accepted"
                )

    def __init__(self, config: Config, embedding: nn.Embedding):
        super().__init__(config, embedding)
        d_model = embedding.embedding_dim
        config.check_width(d_model)
        hidden = 4 * d_model if config.hidden is None else config.hidden
        # In a tuple: the embedding is the model's, and this head's only to read.
        self._embedding = (embedding,)
        self.w_qk = nn.Parameter(torch.empty(2 * d_model, d_model))
        self.b_qk = nn.Parameter(torch.zeros(2 * d_model))
        self.sense_norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(3))
        for name, width in (("mix", d_model), ("sense", config.n_senses * d_model)):
            setattr(self, f"{name}_in", nn.Parameter(torch.empty(hidden, d_model)))
            setattr(self, f"b_{name}_in", nn.Parameter(torch.zeros(hidden)))
            setattr(self, f"{name}_out", nn.Parameter(torch.empty(width, hidden)))
            setattr(self, f"b_{name}_out", nn.Parameter(torch.zeros(width)))
        self.sites = {
            name: UnitSite(
                "head", config.n_senses, signed=False, exactness="logit-split-exact", pairs=pairs
            )
            for name, pairs in (("senses", True), ("strengths", False))
        }

    def senses(self, tokens: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows sense d_model"]:
        """The sense vectors of tokens, whatever stands around them."""
        embedded = self._embedding[0](tokens)
        before, between, after = self.sense_norms
        x = embedded + before(embedded)
        x = x + self._two_layers("mix", between(x))
        x = self._two_layers("sense", after(x))
        return rearrange(x, "... (sense d) -> ... sense d", sense=self.config.n_senses)

    def _two_layers(self, name: str, x: Tensor) -> Tensor:
        hidden = F.linear(x, getattr(self, f"{name}_in"), getattr(self, f"b_{name}_in"))
        return F.linear(
            F.gelu(hidden), getattr(self, f"{name}_out"), getattr(self, f"b_{name}_out")
        )

    def _read(
        self, x: Tensor, tokens: Tensor, cache: LayerCache | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        split = "batch token (two sense d) -> two batch sense token d"
        q, k = rearrange(
            F.linear(x, self.w_qk, self.b_qk), split, two=2, sense=self.config.n_senses
        )
        s = rearrange(self.senses(tokens), "batch token sense d -> batch sense token d")
        s = s.to(q.dtype)
        return (q, *cache.extend(k, s)) if cache is not None else (q, k, s)

    def forward(
        self,
        x: Tensor,
        tokens: Tensor,
        cache: LayerCache | None = None,
        side: Side | None = None,
    ) -> tuple[Tensor, Told]:
        q, k, s = self._read(x, tokens, cache)
        mask = None if q.shape[2] == k.shape[2] else causal(q.shape[2], k.shape[2], q.device)
        y = F.scaled_dot_product_attention(q, k, s, attn_mask=mask, is_causal=mask is None)
        return self.with_bigrams(self.project(y.sum(dim=1)), tokens), {}

    def split(
        self,
        x: Tensor,
        tokens: Tensor,
        cache: LayerCache | None = None,
        side: Side | None = None,
    ) -> tuple[Tensor, Told]:
        q, k, s = self._read(x, tokens, cache)
        weights = self.sites["senses"](Activations(self._weights(q, k), n_units=s.shape[1])).values
        y = self._spoken(weights.to(s.dtype) @ s).sum(dim=1)
        return self.with_bigrams(self.project(y), tokens), {}

    def _spoken(
        self, written: Float[Tensor, "batch sense query d_model"]
    ) -> Float[Tensor, "batch sense query d_model"]:
        """What senses write, as long as their site has it; what is 0 has no direction and stays."""
        strength = written.norm(dim=-1)
        shown = Activations(strength.mT, n_units=written.shape[1])
        wanted = self.sites["strengths"](shown).values.mT
        # A strength that nobody has edited divides itself: the factor is exactly 1.
        factor = wanted / torch.where(strength > 0, strength, 1.0)
        return written * torch.where(strength > 0, factor, 1.0)[..., None]

    def _weights(self, q: Tensor, k: Tensor) -> Float[Tensor, "batch sense query key"]:
        scores = q @ k.mT / q.shape[-1] ** 0.5
        return scores.masked_fill(~causal(q.shape[2], k.shape[2], q.device), -torch.inf).softmax(-1)

    def contributions(
        self,
        x: Float[Tensor, "batch token d_model"],
        tokens: Int[Tensor, "batch token"],
        targets: Int[Tensor, "batch token"],
    ) -> Float[Tensor, "batch sense token source"]:
        """What each sense of each earlier position adds to the logit of one target per position.

        Summed over senses and sources it is the target's logit, a bigram table's part aside.
        """
        q, k, s = self._read(x, tokens, None)
        fixed = torch.einsum("b t d, b h s d -> b h t s", self.weight[targets].to(s.dtype), s)
        return self._weights(q, k) * fixed

    def parts(self, x: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        q, k, s = self._read(x, tokens, None)
        written = self._weights(q, k).to(s.dtype) @ s
        parts = {f"sense {i}": self.project(y) for i, y in enumerate(written.unbind(dim=1))}
        return parts | self._bigram_part(tokens)

    def initial_std(self) -> dict[str, float]:
        d_model, hidden = self.mix_in.shape[1], self.mix_in.shape[0]
        # Senses of unit variance in all, before the (small) embedding that reads them.
        senses = (self.config.n_senses * hidden) ** -0.5
        return super().initial_std() | {
            "w_qk": d_model**-0.5,
            "mix_in": d_model**-0.5,
            "mix_out": hidden**-0.5,
            "sense_in": d_model**-0.5,
            "sense_out": senses,
        }

    def rules(self) -> dict[str, Rule]:
        return {"w_qk": Rule(lr=WEIGHTS_LR)}

    def cost(self, context: int) -> Cost:
        network = sum(p.numel() for p in (self.mix_in, self.mix_out, self.sense_in, self.sense_out))
        products = 2.0 * (network + self.w_qk.numel())
        # A query meets (context + 1) / 2 keys on average, in every sense a whole d_model wide.
        edges = (context + 1) * (self.config.n_senses + 1) * self.weight.shape[1]
        plain = ("weight", "bigram")
        active = sum(p.numel() for name, p in self.named_parameters() if name not in plain)
        return super().cost(context) + Cost(active, products + edges, products + edges)
