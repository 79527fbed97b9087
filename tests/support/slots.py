"""Slots as sparse layers make them, and stranger: for the tests of the kernels."""

import torch
from torch import Tensor


def random_slots(rows: int, k: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """float64 values and int32 indices (rows k): unique in a row, some of them -1 anywhere.

    Unit 0 is in every row that has a slot in use, the last unit in none, and some values are 0.
    """
    generator = torch.Generator().manual_seed(seed)
    rank = torch.rand(rows, width, generator=generator, dtype=torch.float64)
    if rows:
        rank[:, 0], rank[:, -1] = 2.0, -1.0
    indices = rank.argsort(dim=-1, descending=True)[:, :k].int()
    unused = torch.rand(rows, k, generator=generator) < 0.2
    values = torch.randn(rows, k, generator=generator, dtype=torch.float64)
    values[torch.rand(rows, k, generator=generator) < 0.1] = 0.0
    return values.masked_fill(unused, 0.0), indices.masked_fill(unused, -1)


def normal(*size: int, seed: int = 1) -> Tensor:
    """float64 numbers of variance 1."""
    generator = torch.Generator().manual_seed(seed + 1000 * sum(size))
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected; 0 where both are zeros."""
    if got.shape != expected.shape:
        raise AssertionError(f"shape {tuple(got.shape)}, expected {tuple(expected.shape)}")
    difference = (got.double() - expected.double()).norm()
    return float(difference / expected.double().norm()) if difference else 0.0
