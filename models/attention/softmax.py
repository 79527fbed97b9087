"""Causal multi-head attention, with optional query-key norm and a learned sink."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.models.activations import Activations
from pellucid.models.cache import LayerCache
from pellucid.models.filling import Cost, Filling, Told
from pellucid.models.position import Rotation, rotate
from pellucid.models.units import UnitSite, see
from pellucid.settings import fields
from pellucid.settings.fields import setting


class SoftmaxAttention(Filling):
    """`softmax(q kᵀ / √d_head) v` over earlier positions.

    Units are heads, activations the attention edges `(batch, head, query, key)`. The sink is one
    more column of the softmax with a learned logit per head and value 0 (arXiv 2511.13653 §2).
    The channels of queries, keys and values, over all heads, have sites of their own.
    """

    places = ("q", "k", "v")

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        n_heads: int = setting(4, low=1)
        """Heads; must divide d_model."""
        qk_norm: bool = setting(False)
        """Normalize queries and keys by their root mean square, with a learned gain."""
        sink: bool = setting(False)
        """Let a head attend to nothing, through a learned logit with value 0."""

        def check_width(self, d_model: int) -> None:
            if d_model % self.n_heads:
                raise ConfigError(
                    f"attention.n_heads is {self.n_heads}; a divisor of d_model ({d_model}) is accepted"
                )

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        config.check_width(d_model)
        self.config, self.d_head = config, d_model // config.n_heads
        self.w_q, self.w_k, self.w_v, self.w_o = (
            nn.Parameter(torch.empty(d_model, d_model)) for _ in range(4)
        )
        if config.qk_norm:
            self.q_gain, self.k_gain = (nn.Parameter(torch.ones(self.d_head)) for _ in range(2))
        if config.sink:
            self.sink = nn.Parameter(torch.zeros(config.n_heads))
        self.site = UnitSite("attention", config.n_heads, signed=False, exactness="none")
        self.more_sites = {
            name: UnitSite("channel", d_model, signed=True, exactness="none") for name in "qkv"
        }

    def _project(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys of the input, values of the source, each `(batch, token, channel)`."""
        return F.linear(x, self.w_q), F.linear(x, self.w_k), F.linear(source, self.w_v)

    def _read(
        self,
        x: Tensor,
        rotation: Rotation | None,
        cache: LayerCache | None,
        source: Tensor | None = None,
        *,
        seen: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each `(batch, head, token, d_head)`; `seen` by their sites."""
        channels = self._project(x, x if source is None else source)
        channels = [self.sparsify(name, c) for name, c in zip("qkv", channels, strict=True)]
        if seen and self.more_sites:
            channels = [
                see(self.more_sites[name], c) for name, c in zip("qkv", channels, strict=True)
            ]
        heads = "batch token (head d) -> batch head token d"
        q, k, v = (rearrange(c, heads, head=self.config.n_heads) for c in channels)
        if self.config.qk_norm:
            q = F.rms_norm(q, (self.d_head,)) * self.q_gain
            k = F.rms_norm(k, (self.d_head,)) * self.k_gain
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        q, k = q.to(v.dtype), k.to(v.dtype)
        return (q, *cache.extend(k, v)) if cache is not None else (q, k, v)

    def _write(self, mixed: Float[Tensor, "batch head token d"]) -> Tensor:
        return F.linear(rearrange(mixed, "batch head token d -> batch token (head d)"), self.w_o)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        source: Tensor | None = None,
    ) -> tuple[Tensor, Told]:
        """`x (batch, token, d_model)` gives the heads' writes; values come from `source` if given."""
        q, k, v = self._read(x, rotation, cache, source)
        if self.config.sink:
            # A zero key and value whose score is the sink's logit, given through the mask.
            mask = self._sink_mask(q.shape[2], k.shape[2]).to(q.dtype)
            k, v = F.pad(k, (0, 0, 1, 0)), F.pad(v, (0, 0, 1, 0))
            return self._write(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)), {}
        if q.shape[2] == k.shape[2]:
            return self._write(F.scaled_dot_product_attention(q, k, v, is_causal=True)), {}
        mask = causal(q.shape[2], k.shape[2], q.device)
        return self._write(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)), {}

    def _sink_mask(self, queries: int, keys: int) -> Float[Tensor, "head query key_and_sink"]:
        allowed = causal(queries, keys, self.sink.device)
        scores = torch.zeros(allowed.shape, dtype=self.sink.dtype, device=self.sink.device)
        scores = scores.masked_fill(~allowed, -torch.inf).expand(self.config.n_heads, -1, -1)
        column = self.sink[:, None, None].expand(-1, queries, 1)
        return torch.cat([column, scores], dim=-1)

    def split(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        source: Tensor | None = None,
    ) -> tuple[Tensor, Told]:
        """The same sum with the attention edges in the open, so that they can be edited."""
        q, k, v = self._read(x, rotation, cache, source, seen=True)
        acts = self.site(Activations(self._edges(q, k), n_units=self.config.n_heads))
        return self._write(acts.values.to(v.dtype) @ v), {}

    def _edges(self, q: Tensor, k: Tensor) -> Float[Tensor, "batch head query key"]:
        scores = q @ k.mT / self.d_head**0.5
        scores = scores.masked_fill(~causal(q.shape[2], k.shape[2], q.device), -torch.inf)
        if not self.config.sink:
            return scores.softmax(-1)
        column = self.sink[None, :, None, None].expand(*scores.shape[:3], 1).to(scores.dtype)
        return torch.cat([column, scores], dim=-1).softmax(-1)[..., 1:]

    def cost(self, context: int) -> Cost:
        matrices = 4 * self.w_q.numel()
        # A query meets (context + 1) / 2 keys on average, for the scores and for the mixing.
        edges = 2 * (context + 1) * self.w_q.shape[0]
        active = sum(p.numel() for p in self.parameters())
        return Cost(active, 2 * matrices + edges, 2 * matrices + edges)

    def write_scale(self) -> float:
        # Values of unit variance; averaging over keys only makes the output smaller.
        return self.w_o.shape[1] ** 0.5


def causal(queries: int, keys: int, device: torch.device) -> Tensor:
    """Which keys a query may see, `(query, key)`; the queries are the last of the keys' positions."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
