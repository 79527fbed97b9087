"""Causal multi-head attention by a softmax, with optional query-key norm and a learned sink."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.attention.heads import HeadedAttention, causal
from pellucid.models.filling import Told
from pellucid.models.units import Exactness
from pellucid.settings.fields import setting


class SoftmaxAttention(HeadedAttention):
    """`softmax(q kᵀ / √d_head) v` over earlier positions.

    Units are heads, activations the attention edges `(batch, head, query, key)`. The sink is one
    more column of the softmax with a learned logit per head and value 0 (arXiv 2511.13653 §2).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(HeadedAttention.Config):
        sink: bool = setting(False)
        """Let a head attend to nothing, through a learned logit with value 0."""
        bias: bool = setting(False)
        """Add biases to queries, keys, values and to what the heads write."""

    def __init__(
        self, config: Config, d_model: int, *, exactness: Exactness = "none", n_scores: int = 1
    ):
        super().__init__(config, d_model, exactness=exactness, n_scores=n_scores)
        if config.bias:
            self.b_q, self.b_k = (nn.Parameter(torch.zeros(len(self.w_q))) for _ in "qk")
            self.b_v, self.b_o = (nn.Parameter(torch.zeros(d_model)) for _ in "vo")
        if config.sink:
            self.sink = nn.Parameter(torch.zeros(config.n_heads))

    def _fused(
        self, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Float[Tensor, "batch head query d"], Told]:
        """By one operation, which tells nothing."""
        return self._mix(q, k, v), {}

    def _mix(self, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "batch head query d"]:
        if self.config.sink:
            # A zero key and value whose score is the sink's logit, given through the mask.
            mask = self._sink_mask(q.shape[2], k.shape[2]).to(q.dtype)
            k, v = F.pad(k, (0, 0, 1, 0)), F.pad(v, (0, 0, 1, 0))
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        if q.shape[2] == k.shape[2]:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mask = causal(q.shape[2], k.shape[2], q.device)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def _sink_mask(self, queries: int, keys: int) -> Float[Tensor, "head query key_and_sink"]:
        allowed = causal(queries, keys, self.sink.device)
        scores = torch.zeros(allowed.shape, dtype=self.sink.dtype, device=self.sink.device)
        scores = scores.masked_fill(~allowed, -torch.inf).expand(self.config.n_heads, -1, -1)
        column = self.sink[:, None, None].expand(-1, queries, 1)
        return torch.cat([column, scores], dim=-1)

    def edges(self, q: Tensor, k: Tensor) -> tuple[Float[Tensor, "batch head query key"], Told]:
        """The shares that a softmax over the visible keys gives, in the open."""
        scores = (q / self.d_head**0.5) @ k.mT
        scores = scores.masked_fill_(~causal(q.shape[2], k.shape[2], q.device), -torch.inf)
        if not self.config.sink:
            return scores.softmax(-1), {}
        column = self.sink[None, :, None, None].expand(*scores.shape[:3], 1).to(scores.dtype)
        return torch.cat([column, scores], dim=-1).softmax(-1)[..., 1:], {}

    def write_scale(self) -> float:
        # Values of unit variance; averaging over keys only makes the output smaller.
        return self.w_o.shape[1] ** 0.5
