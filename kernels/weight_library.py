"""Weight projection by library calls, one matrix at a time: the path of the CPU, and of float64."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.kernels.weight_keys import bounds, keys, largest
from pellucid.kernels.weight_radix import LibraryEntries, cut_largest

DIGIT_BITS = 16
"""A `bincount` of so many bits costs no more than one of a few, and two passes do for float32."""

ENTRIES = LibraryEntries


def weight_topk_(
    weights: Sequence[Tensor],
    keep: Sequence[int],
    per_row: Sequence[int],
    per_column: Sequence[int],
) -> None:
    """Project contiguous matrices in place; `reference.weight_topk_mask` says which entries stay."""
    for weight, kept, row, column in zip(weights, keep, per_row, per_column, strict=True):
        rows = guard_lines([weight], [row], columns=False)
        columns = guard_lines([weight], [column], columns=True)
        room = torch.tensor([kept], device=weight.device)
        cut_largest(LibraryEntries([weight], rows, columns), room, weight.dtype, DIGIT_BITS)


def guard_lines(
    weights: Sequence[Tensor], j: Sequence[int], *, columns: bool
) -> list[Tensor | None]:
    """`bounds` of the j largest of each row, or column, of the matrices; None where j is 0."""
    return [
        _line_bounds(weight.T if columns else weight, count) if count else None
        for weight, count in zip(weights, j, strict=True)
    ]


def _line_bounds(lines: Tensor, j: int) -> Tensor:
    return bounds(*largest(keys(lines.contiguous()), j))
