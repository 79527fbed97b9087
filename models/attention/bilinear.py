"""Bilinear attention: the product of two scores, and no softmax."""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from pellucid.models.attention.heads import MIXED, HeadedAttention, causal
from pellucid.models.filling import Told
from pellucid.models.position import Rotation, rotate
from pellucid.settings.fields import setting


class BilinearAttention(HeadedAttention):
    """`(q¹ₜ·k¹ₛ)(q²ₜ·k²ₛ) / (d_head √t)`, summed over the t visible keys with their values.

    The bilinear attention of tensor transformers (L. Riggs, 2026; LessWrong hp9bvkiN3RzHgP9cq). An
    edge is a form of degree 4 in its two inputs, which the weights alone determine, see `forms`.
    The number of visible keys is a constant of the position, so that dividing by its root leaves the
    form exact; without it the sum would grow along the row. Rotary positions turn both pairs of
    queries and keys: the form then depends on the distance. With `qk_norm`, which the original
    keeps, edges are no polynomial of the inputs, and nothing is claimed.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(HeadedAttention.Config):
        qk_norm: bool = setting(False)
        """Normalize both queries and keys by their root mean square; edges are then not exact."""

    def __init__(self, config: Config, d_model: int):
        exactness = "none" if config.qk_norm else "weights-exact"
        super().__init__(config, d_model, signed=True, exactness=exactness, n_scores=2)

    def edges(self, q: Tensor, k: Tensor) -> tuple[Float[Tensor, "batch head query key"], Told]:
        """Products of two scores, exactly 0 for later keys, over the root of how many are visible."""
        queries, keys = q.shape[2], k.shape[2]
        seen = torch.arange(keys - queries + 1, keys + 1, device=q.device, dtype=q.dtype)
        (one, two), (k_one, k_two) = q.chunk(2, dim=1), k.chunk(2, dim=1)
        # The divisors are the queries': far fewer numbers than there are edges.
        one = one / (self.d_head * seen[:, None].sqrt())
        edges = (one @ k_one.mT) * (two @ k_two.mT)
        return edges.masked_fill(~causal(queries, keys, q.device), 0.0), {}

    def forms(self, rotation: Rotation | None = None) -> Float[Tensor, "pair head d_model d_other"]:
        """The matrices `M` of both scores `xₜᵀ M xₛ`, so that an edge is their product over √t.

        `rotation` is that of the distance t - s, as `position.rotation(tensor([t - s]))` gives it.
        """
        rows = "(pair head d) d_model -> pair head d_model d"
        q, k = (rearrange(w, rows, pair=2, d=self.d_head) for w in (self.w_q, self.w_k))
        if rotation is not None:
            q = rotate(q, rotation)
        products = einsum(q, k, "pair head i d, pair head j d -> pair head i j")
        return products / self.d_head**0.5

    def write_scale(self) -> float:
        # The sum of t unit-variance products over √t has variance 1, at every position.
        return self.w_o.shape[1] ** 0.5 / MIXED
