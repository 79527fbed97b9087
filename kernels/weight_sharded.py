"""Projection of matrices that are spread over processes by rows (FSDP2), as if they were whole.

What crosses processes: the counts of every digit, of all matrices at once; how many ties at the
threshold each process has; and where columns are guarded, each process's largest of every column.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from pellucid.kernels.select import top_indices
from pellucid.kernels.weight_checks import shard_axis
from pellucid.kernels.weight_keys import bounds, keys, largest
from pellucid.kernels.weight_radix import cut_largest
from pellucid.kernels.weight_topk import serving

DIGIT_BITS = 8
"""Counts of small digits are small messages."""


class Part(NamedTuple):
    """This process's rows of a matrix, and what the whole matrix keeps."""

    matrix: Tensor  # (rows columns), contiguous; without rows where processes outnumber them
    first_row: int
    keep: int
    per_row: int
    per_column: int


def project_sharded(
    jobs: Sequence[tuple[DTensor, int, int, int]],
) -> list[tuple[Tensor, int, int, int]]:
    """Project what is spread over processes; returns the jobs that each process does by itself."""
    alone, together = [], defaultdict(list)
    for tensor, *amounts in jobs:
        axis = shard_axis(tensor)
        if axis is None:
            alone.append((tensor.to_local(), *amounts))
        else:
            group = tensor.device_mesh.get_group(axis)
            together[group, tensor.dtype].append((tensor, _first_row(tensor, axis), *amounts))
    for (group, _), alike in together.items():
        _project([Part(_matrix(tensor), *rest) for tensor, *rest in alike], group)
    return alone


def _first_row(tensor: DTensor, axis: int) -> int:
    """Rows are dealt out in chunks of equal size, the last ones shorter or empty."""
    chunk = -(-len(tensor) // tensor.device_mesh.size(axis))
    return min(chunk * tensor.device_mesh.get_local_rank(axis), len(tensor))


def _matrix(tensor: DTensor) -> Tensor:
    local = tensor.to_local()
    if not local.is_contiguous():
        raise ValueError(
            f"weight_topk_: the local part of a sharded tensor must be contiguous, got strides "
            f"{local.stride()} for shape {tuple(local.shape)}"
        )
    return local.view(len(local), math.prod(local.shape[1:]))


def _project(parts: list[Part], group: dist.ProcessGroup) -> None:
    """Parts of one dtype, the same ones in every process of the group."""
    matrices = [part.matrix for part in parts]
    local = serving(matrices[0])
    rows = local.guard_lines(matrices, [part.per_row for part in parts], columns=False)
    columns = column_bounds(parts, group)
    entries = local.ENTRIES(matrices, rows, columns, [part.first_row for part in parts])
    keep = torch.tensor([part.keep for part in parts], device=matrices[0].device)
    cut_largest(
        entries,
        keep,
        matrices[0].dtype,
        DIGIT_BITS,
        total=lambda counts: _sum(counts, group),
        share=lambda room, ties: (room - _before(ties, group)).clamp(min=0),
    )


def _sum(counts: Tensor, group: dist.ProcessGroup) -> Tensor:
    total = counts.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


def _gather(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """(…) of every process, in their order: (processes …)"""
    found = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(found, tensor.contiguous(), group=group)
    return torch.stack(found)


def _before(ties: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Ties (matrices) in the processes that hold the rows before this one's."""
    return _gather(ties, group)[: dist.get_rank(group)].sum(dim=0)


def column_bounds(parts: Sequence[Part], group: dist.ProcessGroup) -> list[Tensor | None]:
    """`weight_keys.bounds` of the largest entries of each whole column, places as whole rows.

    An entry that is among the j largest of its column is so in its process: these alone are sent.
    """
    guarded = [part for part in parts if part.per_column]
    if not guarded:
        return [None] * len(parts)
    sent = [_largest_of_columns(part) for part in guarded]
    received = _gather(torch.cat([part.flatten() for part in sent]), group)
    pieces = received.split([part.numel() for part in sent], dim=1)
    found = iter(
        _merged(piece.unflatten(1, part.shape), guard.per_column)
        for piece, part, guard in zip(pieces, sent, guarded, strict=True)
    )
    return [next(found) if part.per_column else None for part in parts]


def _largest_of_columns(part: Part) -> Tensor:
    """Keys and rows, int64 (2 columns j), of this process's largest; -1 where it has fewer rows."""
    found, places = largest(keys(part.matrix.T.contiguous()), part.per_column)
    pairs = torch.stack((found.long(), places + part.first_row))
    missing = part.per_column - pairs.shape[2]
    return torch.nn.functional.pad(pairs, (0, missing), value=-1)


def _merged(pairs: Tensor, j: int) -> Tensor:
    """Of (processes 2 columns j) the bounds of the j largest: earlier processes hold lower rows."""
    found, places = pairs.permute(1, 2, 0, 3).flatten(2)
    chosen = top_indices(found, j)
    return bounds(found.gather(1, chosen), places.gather(1, chosen))
