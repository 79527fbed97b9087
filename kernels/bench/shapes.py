"""The sizes that are timed, and inputs for them."""

from dataclasses import dataclass

import torch
from torch import Tensor

INPUT_BYTES = 12 << 30
"""Inputs that take turns may fill this much memory."""
MOST_SETS = 3
DRAWN_ENTRIES = 1 << 26
"""Random numbers drawn at once for indices."""


@dataclass(frozen=True)
class Shape:
    """One size of a top-k layer."""

    name: str
    tokens: int
    d_model: int
    width: int
    k: int

    def __str__(self) -> str:
        sizes = f"{self.tokens} tokens, d {self.d_model}, width {self.width}, k {self.k}"
        return f"{self.name}: {sizes} (width/k {self.width // self.k})"


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("S1", 16384, 2048, 65536, 64),
        Shape("T1", 65536, 512, 8192, 32),
        Shape("S4", 16384, 2048, 16384, 64),
        Shape("S2", 16384, 1024, 32768, 32),
        Shape("S5", 16384, 1024, 131072, 32),
        Shape("S3", 65536, 2048, 131072, 128),
    )
}
"""Those with most goals first, and the largest last."""


@dataclass
class LayerInputs:
    """Weights of one layer, and inputs and output gradients (rows d_model) that take turns."""

    x: list[Tensor]
    grad: list[Tensor]
    weights: tuple[Tensor, Tensor, Tensor]

    def turn(self, number: int) -> tuple[Tensor, Tensor]:
        """The input and the output gradient of a round."""
        return self.x[number % len(self.x)], self.grad[number % len(self.grad)]


def layer_inputs(shape: Shape, device: torch.device, dtype: torch.dtype) -> LayerInputs:
    """Random normal weights and inputs that require gradients; pre-activations have variance 1."""
    options = {"device": device, "dtype": dtype}
    rows, d, width = shape.tokens, shape.d_model, shape.width
    w_enc = (torch.randn(width, d, **options) / d**0.5).requires_grad_()
    b_enc = torch.zeros(width, **options).requires_grad_()
    w_dec = (torch.randn(width, d, **options) / shape.k**0.5).requires_grad_()
    sets = range(n_sets(2 * rows * d * dtype.itemsize))
    return LayerInputs(
        x=[torch.randn(rows, d, **options).requires_grad_() for _ in sets],
        grad=[torch.randn(rows, d, **options) for _ in sets],
        weights=(w_enc, b_enc, w_dec),
    )


def n_sets(size: int) -> int:
    """How many sets of inputs of `size` bytes take turns."""
    return max(1, min(MOST_SETS, INPUT_BYTES // max(size, 1)))


def draw_indices(rows: int, width: int, k: int, law: str, device: torch.device) -> Tensor:
    """k different units for each row, int32 and ascending: `uniform`, or `zipf` with exponent 1.

    Sampling without replacement by the k largest of log-weight plus Gumbel noise. The ranks of the
    law lie in random order over the units, as a trained layer's do.
    """
    weight = torch.zeros(width, device=device)
    if law == "zipf":
        ranks = torch.arange(1, width + 1, dtype=torch.float32, device=device)
        weight = -ranks.log()[torch.randperm(width, device=device)]
    chosen = []
    step = max(1, DRAWN_ENTRIES // width)
    for start in range(0, rows, step):
        size = (min(step, rows - start), width)
        gumbel = -torch.empty(size, device=device).exponential_().log_()
        chosen.append((gumbel + weight).topk(k, dim=-1, sorted=False).indices)
    return torch.cat(chosen).sort(dim=-1).values.int()
