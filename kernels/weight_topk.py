"""Weight-sparse training's projection: matrices cut to their largest entries, in place.

The method of weight-sparse transformers (arXiv 2511.13653), as an operation: exact, with one rule
for ties, so that replicas of a matrix, parts of it on other processes, and every device agree.
"""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor
from torch.library import custom_op

from pellucid.kernels import paths
from pellucid.kernels.weight_checks import (
    check_weights,
    is_spread,
    kept_entries,
    kept_per_line,
    one_for_each,
)

Amount = int | float | Sequence[int | float]


@torch.no_grad()
def weight_topk_(
    weights: Tensor | Sequence[Tensor],
    keep: Amount,
    *,
    scope: Literal["matrix", "row", "column"] = "matrix",
    per_row: int | Sequence[int] = 0,
    per_column: int | Sequence[int] = 0,
) -> None:
    """Keep the entries of largest magnitude of each tensor and set all others to 0, in place.

    `keep` is a number of entries (int) or a density (float in (0, 1]): of n entries ⌊keep n⌋ stay,
    and at least one. The `per_row` largest entries of each row and the `per_column` largest of each
    column are guarded: they always stay, and count towards `keep`, so that exactly
    max(keep, guarded entries) positions stay. With scope `row` (`column`) `keep` applies to every
    row (column) by itself. Each of the three may be a sequence with one number for each tensor.

    Among equal magnitudes the lowest flat index stays. Positions that stay keep their bits, also
    -0 and where zeros have to fill up the number; all others become +0. NaN ranks above every
    number, all NaN alike, so that it stays visible. Projecting twice changes nothing more.

    Tensors are float, of one device, parameters or without gradient, of 2 dimensions (of any number
    with scope `matrix` and no guards). A DTensor may be replicated, or sharded on dimension 0, as
    FSDP2 does, and then every process must call: the result is that of one process, bit for bit.
    ValueError for anything else. Not differentiable; a training step calls it after the optimizer's.
    """
    tensors = check_weights(weights, scope)
    guards = (
        one_for_each("per_row", per_row, tensors),
        one_for_each("per_column", per_column, tensors),
    )
    kept = one_for_each("keep", keep, tensors)
    if scope == "matrix":
        counts = [kept_entries(tensor, *each) for tensor, *each in zip(tensors, kept, *guards)]
        project(tensors, counts, *guards)
        return
    if any(map(any, guards)):
        raise ValueError(f"weight_topk_: per_row and per_column need scope 'matrix', got {scope!r}")
    lines = [kept_per_line(tensor, amount, scope) for tensor, amount in zip(tensors, kept)]
    # No entries beyond the guarded ones, and those are all that the lines keep.
    none = [0] * len(lines)
    project(tensors, none, *((lines, none) if scope == "row" else (none, lines)))


def project(
    tensors: list[Tensor], keep: list[int], per_row: list[int], per_column: list[int]
) -> None:
    """Sharded tensors by all their processes together, all others by this one alone."""
    jobs = [job for job in zip(tensors, keep, per_row, per_column) if job[1] < job[0].numel()]
    spread = [job for job in jobs if is_spread(job[0])]
    if spread:
        from pellucid.kernels.weight_sharded import project_sharded

        jobs = [job for job in jobs if not is_spread(job[0])]
        jobs += project_sharded(spread)
    if jobs:
        _weight_topk_(*map(list, zip(*jobs)))


@custom_op("pellucid::weight_topk_", mutates_args={"weights"})
def _weight_topk_(
    weights: Sequence[Tensor],
    keep: Sequence[int],
    per_row: Sequence[int],
    per_column: Sequence[int],
) -> None:
    matrices = [as_matrix(weight) for weight in weights]
    for dtype in dict.fromkeys(matrix.dtype for matrix in matrices):
        jobs = zip(matrices, keep, per_row, per_column, strict=True)
        alike = [job for job in jobs if job[0].dtype == dtype]
        serving(alike[0][0]).weight_topk_(*map(list, zip(*alike)))
    for weight, matrix in zip(weights, matrices, strict=True):
        if not weight.is_contiguous():
            weight.copy_(matrix.view(weight.shape))


@_weight_topk_.register_fake
def _(weights, keep, per_row, per_column):
    return None


def as_matrix(weight: Tensor) -> Tensor:
    """The same memory as (rows columns), or a copy where it has gaps; a vector is one row."""
    weight = weight.contiguous()
    return weight.view(1, -1) if weight.dim() < 2 else weight.view(len(weight), -1)


def serving(weight: Tensor) -> ModuleType:
    """The module that projects tensors of this kind; Triton has no kernel for float64."""
    triton = weight.device.type == "cuda" and paths.path(weight.device).endswith("Triton kernels")
    if triton and weight.dtype != torch.float64:
        return importlib.import_module("pellucid.kernels.gpu.weight_topk")
    return importlib.import_module("pellucid.kernels.weight_library")
