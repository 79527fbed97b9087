"""Attention whose projections keep heads apart, or mix them by scalars alone."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.attention.softmax import SoftmaxAttention
from pellucid.models.filling import Cost, Rule
from pellucid.settings.fields import setting

PROJECTIONS = ("w_q", "w_k", "w_v", "w_o")
MIXING_LR = 10.0
"""Learning rate of the scalars that mix heads, in those of the other weights: few and of size 1."""


class HeadwiseAttention(SoftmaxAttention):
    """Every projection acts within heads; `kronecker` then mixes them by scalars (2603.07461).

    A d_model x d_model projection becomes one d_head x d_head block per head, times M ⊗ I for a
    heads x heads matrix M where heads mix. With independent heads, what a head reads and writes
    never leaves its own channels of the stream.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SoftmaxAttention.Config):
        mixing: Literal["independent", "kronecker"] = setting("kronecker")
        """Whether heads stay apart or are mixed by scalars."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)
        heads, width = config.n_heads, self.d_head
        for name in PROJECTIONS:
            setattr(self, name, nn.Parameter(torch.empty(heads, width, width)))
            if config.mixing == "kronecker":
                setattr(self, f"m_{name[-1]}", nn.Parameter(torch.eye(heads)))

    def _project(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._map("q", x), self._map("k", x), self._map("v", source)

    def _write(self, mixed: Float[Tensor, "batch head token d"]) -> Tensor:
        return self._map("o", self._joined(mixed))

    def _map(self, name: str, x: Float[Tensor, "batch token channel"]) -> Tensor:
        x = rearrange(x, "batch token (head i) -> batch token head i", head=self.config.n_heads)
        x = einsum(x, getattr(self, f"w_{name}"), "b t head i, head o i -> b t head o")
        if self.config.mixing == "kronecker":
            x = einsum(x, getattr(self, f"m_{name}"), "b t head o, to head -> b t to o")
        x = rearrange(x, "batch token head o -> batch token (head o)")
        bias = getattr(self, f"b_{name}")
        return x if bias is None else x + bias

    def initial_std(self) -> dict[str, float]:
        # A block reads the d_head channels of its own head.
        return dict.fromkeys(PROJECTIONS[:3], self.d_head**-0.5)

    def rules(self) -> dict[str, Rule]:
        # Adam moves every weight as far, so that of a sum over fewer inputs each must move further
        # (arXiv 2203.03466): a block reads one head's channels where a whole projection reads all.
        blocks = dict.fromkeys(PROJECTIONS, Rule(lr=float(self.config.n_heads)))
        if self.config.mixing == "independent":
            return blocks
        return blocks | {f"m_{name[-1]}": Rule(lr=MIXING_LR, decay=0.0) for name in PROJECTIONS}

    def write_scale(self) -> float:
        return self.d_head**0.5

    def cost(self, context: int) -> Cost:
        products = sum(p.numel() * (self.d_head if p.ndim == 2 else 1) for p in self._matrices())
        edges = 2 * (context + 1) * self.config.n_heads * self.d_head
        active = sum(p.numel() for p in self.parameters())
        return Cost(active, 2 * products + edges, 2 * products + edges)

    def _matrices(self) -> list[Tensor]:
        return [p for name, p in self.named_parameters() if name[:2] in ("w_", "m_")]
