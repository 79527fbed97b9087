"""Product keys: the largest of n² sums from the largest of two lists of n (arXiv 1907.05242)."""

from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.kernels import topk_rows


def product_topk(
    first: Float[Tensor, "rows n"], second: Float[Tensor, "rows n"], k: int
) -> tuple[Float[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """The k largest of all sums `first_i + second_j` in each row, and their places `i · n + j`.

    Exact: a sum among the k largest is made of halves among the k largest. Values are
    differentiable, places int32 and ascending.
    """
    n = first.shape[1]
    m = min(k, n)
    (a, i), (b, j) = topk_rows(first, m), topk_rows(second, m)
    values, slot = topk_rows((a[:, :, None] + b[:, None, :]).flatten(1), k)
    slot = slot.long()
    return values, i.gather(1, slot // m) * n + j.gather(1, slot % m)


@cache
def selected_second_moment(n: int, k: int) -> float:
    """Mean square of the k largest sums of two lists of n unit-normal draws, by 512 such draws."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(512, n, generator=generator, device="cpu") for _ in range(2))
    return float(product_topk(first, second, k)[0].square().mean())
