"""Weight projection by library calls, one matrix at a time: the path of the CPU, and of float64."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.kernels.weight_keys import bounds, keys, largest
from pellucid.kernels.weight_radix import LibraryEntries, cut_largest

DIGIT_BITS = 16
"""A `bincount` of so many bits costs no more than one of a few, and two passes do for float32."""


def weight_topk_(
    weights: Sequence[Tensor],
    keep: Sequence[int],
    per_row: Sequence[int],
    per_column: Sequence[int],
) -> None:
    """Project contiguous matrices in place; the numbers are those of `reference.weight_topk_mask`."""
    for weight, kept, row, column in zip(weights, keep, per_row, per_column, strict=True):
        rows = line_bounds(weight, row)
        columns = line_bounds(weight.T, column)
        entries = LibraryEntries([weight], [rows], [columns])
        room = torch.tensor([kept], device=weight.device)
        cut_largest(entries, room, weight.dtype, DIGIT_BITS)


def line_bounds(lines: Tensor, j: int) -> Tensor | None:
    """`bounds` of the j largest magnitudes of each line (lines length); None where j is 0."""
    return bounds(*largest(keys(lines.contiguous()), j)) if j else None
