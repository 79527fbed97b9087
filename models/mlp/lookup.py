"""Units looked up by product keys (arXiv 1907.05242): queries, their norm, keys and gates."""

from functools import cache
from math import isqrt
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int32
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.models.activations import merge
from pellucid.models.filling import Told
from pellucid.models.firing import fired
from pellucid.models.product_keys import product_topk

QueryNorm = Literal["rms", "batch"]
"""What keeps queries to the size of the keys: each query's own length, or running statistics."""

MOMENTUM = 0.99
"""Share of the old value when the running statistics of the queries are updated after a step."""


def side_of(n_units: int, field: str) -> int:
    """The root of a square number of units; raises ConfigError with the nearest squares."""
    side = isqrt(n_units)
    if side * side != n_units:
        raise ConfigError(
            f"{field} is {n_units}; a square number such as {side**2} or {(side + 1) ** 2} is accepted"
        )
    return side


def check_k(k: int, side: int, field: str) -> None:
    """Raise ConfigError where more units are asked for than one half of the keys has."""
    if k > side:
        raise ConfigError(
            f"{field} is {k}; at most {side}, the square root of the number of units, is accepted"
        )


def key_width(d_key: int | None, n_heads: int, d_model: int) -> int:
    """Channels of one head's query: as told, or d_model / n_heads; two halves of it must be equal."""
    if d_key is None and d_model % (2 * n_heads):
        raise ConfigError(
            f"mlp.n_heads is {n_heads}; a divisor of d_model / 2 ({d_model}/2) is accepted "
            f"unless mlp.d_key is set"
        )
    width = d_model // n_heads if d_key is None else d_key
    if width % 2:
        raise ConfigError(f"mlp.d_key is {width}; an even number is accepted")
    return width


def precise_linear(x: Tensor, weight: Tensor) -> Tensor:
    """`x weightᵀ` in the weight's own type also under autocast: bfloat16 makes ties of scores."""
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(weight.dtype), weight)


class ProductKeys(nn.Module):
    """Queries of several heads and their keys: for each token and head the k best of n² units.

    `query_norm` is "rms", which divides half a query by its own root mean square, or "batch",
    which standardizes each channel (as BatchNorm does, arXiv 2407.04153) by running statistics of
    earlier steps: so that no token ever sees another, in training neither.
    """

    def __init__(self, d_model: int, n_heads: int, d_key: int, side: int, k: int, norm: QueryNorm):
        super().__init__()
        self.k, self.side, self.norm = k, side, norm
        self.w_query = nn.Parameter(torch.empty(n_heads * d_key, d_model))
        self.keys = nn.Parameter(torch.empty(n_heads, 2, side, d_key // 2))
        if norm == "batch":
            self.register_buffer("query_mean", torch.zeros(n_heads * d_key))
            self.register_buffer("query_square", torch.ones(n_heads * d_key))

    def forward(
        self, x: Float[Tensor, "tokens d_model"]
    ) -> tuple[Float[Tensor, "tokens heads k"], Int32[Tensor, "tokens heads k"], Told]:
        """Gates, which are a softmax over the k best scores of each head, units, and told."""
        query = precise_linear(x, self.w_query)
        told = {}
        if self.norm == "batch":
            told["mean/query_mean"] = query.detach().mean(0)
            told["mean/query_square"] = query.detach().square().mean(0)
            spread = (self.query_square - self.query_mean.square()).clamp_min(1e-5).sqrt()
            query = (query - self.query_mean) / spread
        heads, _, _, half = self.keys.shape
        query = rearrange(query, "t (h two c) -> two h t c", h=heads, two=2)
        if self.norm == "rms":
            query = F.rms_norm(query, (half,), eps=1e-6)
        with torch.autocast(x.device.type, enabled=False):
            # Half, head, token, key: as a batched product leaves them, so that no copy is made.
            scores = query @ self.keys.transpose(0, 1).mT
        best, units = product_topk(*scores.flatten(1, 2), self.k)
        back = {"pattern": "(h t) k -> t h k", "h": heads}
        return rearrange(best.softmax(-1), **back), rearrange(units, **back), told

    def merged(
        self, x: Float[Tensor, "batch token d_model"]
    ) -> tuple[Float[Tensor, "batch token slot"], Int32[Tensor, "batch token slot"], Told]:
        """The same with the heads as one list, for heads that share a table: a unit stands once.

        Its gate is the sum over the heads that chose it; emptied slots hold 0 and -1. What is told
        is named for the filling whose attribute `keys` this is.
        """
        gates, units, told = self(x.flatten(0, 1))
        told = {f"keys.{name}": value for name, value in told.items()}
        told["sum/load"] = fired(units, self.side**2)
        gates, units = merge(gates.flatten(1), units.flatten(1), len(self.keys))
        return gates.unflatten(0, x.shape[:2]), units.unflatten(0, x.shape[:2]), told

    @torch.no_grad()
    def after_step(self, told: Told, tokens: int) -> None:
        """Move the running statistics of the queries."""
        self.query_mean.lerp_(told["mean/query_mean"].to(self.query_mean), 1 - MOMENTUM)
        self.query_square.lerp_(told["mean/query_square"].to(self.query_square), 1 - MOMENTUM)

    def initial_std(self) -> dict[str, float]:
        """Unit-normal queries, and unit-normal scores of either half."""
        return {
            "w_query": self.w_query.shape[1] ** -0.5,
            "keys": self.keys.shape[-1] ** -0.5,
        }

    def flops(self) -> float:
        """Of one token: the queries, and the scores of both halves."""
        return 2.0 * (self.w_query.numel() + self.keys.numel())


@cache
def gate_energy(side: int, k: int) -> float:
    """Expected sum of the squared gates of one head where all half scores are unit-normal."""
    generator = torch.Generator().manual_seed(0)
    halves = torch.randn(2, 512, side, generator=generator, device="cpu")
    return float(product_topk(*halves, k)[0].softmax(-1).square().sum(-1).mean())


def merged_energy(side: int, k: int, n_heads: int) -> float:
    """The same for the merged gates of several heads, whose choices meet by chance alone."""
    return n_heads * gate_energy(side, k) + n_heads * (n_heads - 1) / side**2
