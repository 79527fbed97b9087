"""What every kind of attention shares: heads that read, edges that can be seen, heads that write."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.models.activations import Activations
from pellucid.models.beginnings import Beginnings
from pellucid.models.cache import LayerCache
from pellucid.models.filling import Cost, Filling, Told
from pellucid.models.position import Rotation, rotate
from pellucid.models.units import Exactness, UnitSite, see
from pellucid.settings import fields
from pellucid.settings.fields import setting

MIXED = 0.235
"""Root mean square of what a softmax head mixes at first, over a row of 256 unit-normal tokens."""

BLOCKS, SMALLEST_BLOCK = 4, 64
"""Blocks of queries where edges are computed in the open, and the fewest queries of one: of four,
each with the keys up to its last query, the edges are 5/8 of all, and they fit the cache sooner."""


class HeadedAttention(Filling):
    """`edges(q, k) v` over earlier positions, in heads. A kind of attention says what edges are.

    Units are heads, activations the attention edges `(batch, head, query, key)`. The channels of
    queries, keys and values, over all heads, have sites of their own. A kind whose edges are made
    of several scores has as many queries and keys for each head, score before head.
    """

    places = ("q", "k", "v")
    beginnings: Beginnings | None = None
    """What the tokens of a pass are the beginnings of, where they are not rows themselves."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        n_heads: int = setting(4, low=1)
        """Heads; must divide d_model."""
        qk_norm: bool = setting(False)
        """Normalize queries and keys by their root mean square, with a learned gain."""

        def check_width(self, d_model: int) -> None:
            if d_model % self.n_heads:
                raise ConfigError(
                    f"attention.n_heads is {self.n_heads}; a divisor of d_model ({d_model}) is accepted"
                )

    def __init__(
        self,
        config: Config,
        d_model: int,
        *,
        signed: bool = False,
        exactness: Exactness = "none",
        n_scores: int = 1,
    ):
        super().__init__()
        config.check_width(d_model)
        self.config, self.d_head = config, d_model // config.n_heads
        self.w_q, self.w_k = (nn.Parameter(torch.empty(n_scores * d_model, d_model)) for _ in "qk")
        self.w_v, self.w_o = (nn.Parameter(torch.empty(d_model, d_model)) for _ in "vo")
        self.b_q = self.b_k = self.b_v = self.b_o = None  # for kinds that have biases
        if config.qk_norm:
            self.q_gain, self.k_gain = (nn.Parameter(torch.ones(self.d_head)) for _ in range(2))
        self.site = UnitSite(
            "attention", config.n_heads, signed=signed, exactness=exactness, pairs=True
        )
        widths = {"q": n_scores * d_model, "k": n_scores * d_model, "v": d_model}
        self.more_sites = {
            name: UnitSite("channel", width, signed=True, exactness="none")
            for name, width in widths.items()
        }

    @abstractmethod
    def edges(self, q: Tensor, k: Tensor) -> tuple[Float[Tensor, "batch head query key"], Told]:
        """How much of each key's value every query takes; exactly 0 for keys that come later.

        What it tells are means over the visible edges.
        """

    def _project(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys of the input, values of the source, each `(batch, token, channel)`."""
        q, k = F.linear(x, self.w_q, self.b_q), F.linear(x, self.w_k, self.b_k)
        return q, k, F.linear(source, self.w_v, self.b_v)

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
        if seen and self.places:
            channels = [
                see(self.more_sites[name], c) for name, c in zip("qkv", channels, strict=True)
            ]
        heads = "batch token (head d) -> batch head token d"
        q, k, v = (rearrange(c, heads, d=self.d_head) for c in channels)
        if self.config.qk_norm:
            q = F.rms_norm(q, (self.d_head,)) * self.q_gain
            k = F.rms_norm(k, (self.d_head,)) * self.k_gain
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        q, k = q.to(v.dtype), k.to(v.dtype)
        if self.beginnings is not None:
            q, k, v = (self.beginnings.spread(c) for c in (q, k, v))
        return (q, *cache.extend(k, v)) if cache is not None else (q, k, v)

    def _write(self, mixed: Float[Tensor, "batch head token d"]) -> Tensor:
        return F.linear(self._joined(mixed), self.w_o, self.b_o)

    def _joined(self, mixed: Float[Tensor, "batch head token d"]) -> Tensor:
        """The heads' channels one after the other, `(batch, token, channel)`, as `w_o` reads them."""
        joined = rearrange(mixed, "batch head token d -> batch token (head d)")
        return joined if self.beginnings is None else self.beginnings.gathered(joined)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        source: Tensor | None = None,
    ) -> tuple[Tensor, Told]:
        """`x (batch, token, d_model)` gives the heads' writes; values come from `source` if given."""
        mixed, told = self._fused(*self._read(x, rotation, cache, source))
        return self._write(mixed), told

    def _fused(
        self, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Float[Tensor, "batch head query d"], Told]:
        """What the heads take from the values where nobody looks at edges."""
        return self._by_blocks(q, k, v)

    def _by_blocks(
        self, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Float[Tensor, "batch head query d"], Told]:
        """`edges(q, k) v` for some queries at a time, which need no edges to keys after the last.

        What edges tell are means over visible edges, and those of the blocks are put together.
        """
        queries, earlier = q.shape[2], k.shape[2] - q.shape[2]
        mixed, told = [], {}
        size = max(-(-queries // BLOCKS), SMALLEST_BLOCK)
        for first in range(0, queries, size):
            end = min(first + size, queries)
            keys = earlier + end
            edges, means = self.edges(q[:, :, first:end], k[:, :, :keys])
            mixed.append(edges.to(v.dtype) @ v[:, :, :keys])
            share = visible(end - first, keys) / visible(queries, k.shape[2])
            for name, mean in means.items():
                told[name] = told.get(name, 0.0) + share * mean
        return torch.cat(mixed, dim=2), told

    def split(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        source: Tensor | None = None,
    ) -> tuple[Tensor, Told]:
        """The same sum with the attention edges in the open, so that they can be edited."""
        q, k, v = self._read(x, rotation, cache, source, seen=True)
        if not self.site.state.in_use and not torch.is_grad_enabled():
            # Only channels are looked at. A slope is taken in the open: there its order is fixed.
            mixed, told = self._fused(q, k, v)
            return self._write(mixed), told
        edges, told = self.edges(q, k)
        acts = self.site(Activations(edges, n_units=self.config.n_heads))
        return self._write(acts.values.to(v.dtype) @ v), told

    def cost(self, context: int) -> Cost:
        own = dict(self.named_parameters(recurse=False))
        matrices = sum(p.numel() for name, p in own.items() if name.startswith("w_"))
        # A query meets (context + 1) / 2 keys on average, for the scores and for the mixing.
        edges = (context + 1) * (self.w_q.shape[0] + self.w_o.shape[1])
        active = sum(p.numel() for p in own.values())
        return Cost(active, 2 * matrices + edges, 2 * matrices + edges)


def causal(queries: int, keys: int, device: torch.device) -> Tensor:
    """Which keys a query may see, `(query, key)`; the queries are the last of the keys' positions."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def visible(queries: int, keys: int) -> int:
    """How many edges causality allows between the last of the keys' positions and all of them."""
    return queries * (2 * keys - queries + 1) // 2
