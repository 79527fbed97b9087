"""Long units in pieces: a unit that fires on every token must not keep one program busy for long.

Pieces leave their sums in float32 in a workspace, and a second kernel adds those of a unit in
order. All sizes follow from the shapes: n > L slots make at most 2 (n // L) pieces of L, so there
are 2 (slots // L) programs for pieces and as many rows in the workspace.
"""

from itertools import product
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.gpu.shipped import UNFUSED, Shipped

SHORTEST = 128
"""Units of fewer slots than this are never cut."""

PIECES = 4096
"""Slots per piece are at least all slots over this, which bounds the workspace."""

COLUMNS = 256
IN_FLIGHT = 8


class Split(NamedTuple):
    """Who works on which piece."""

    length: int
    unit: Tensor
    """(programs) unit of each piece, pieces of a unit in order; width where there is none."""

    first: Tensor
    """(width) the first piece of each unit."""


def split_length(slots: int) -> int:
    """Slots per piece."""
    return max(SHORTEST, triton.next_power_of_2(triton.cdiv(slots, PIECES)))


def split_long(offsets: Tensor, slots: int, length: int) -> Split:
    """Cut units of more than `length` slots; offsets (width + 1), `slots` in use at most."""
    pieces = (offsets.diff() + (length - 1)) // length
    pieces = pieces.where(pieces > 1, 0)
    ends = pieces.cumsum(0)
    programs = torch.arange(2 * (slots // length), device=ends.device)
    unit = torch.searchsorted(ends, programs, right=True, out_int32=True)
    return Split(length, unit, (ends - pieces).int())


@triton.jit
def piece(offsets, units, first, pieces, length, width):
    """Unit and slots begin..end of this program, and whether it has any; pieces come before units.

    A unit that is not long has a program of its own, also where it has no slots.
    """
    program = tl.program_id(0)
    cut = program < pieces
    unit = tl.load(units + program, mask=cut, other=0)
    unit = tl.where(cut, unit, program - pieces)
    exists = unit < width
    begin = tl.load(offsets + unit, mask=exists, other=0)
    end = tl.load(offsets + unit + 1, mask=exists, other=0)
    works = exists & (cut == (end - begin > length))
    begin += tl.where(cut, program - tl.load(first + unit, mask=cut & exists, other=0), 0) * length
    return unit, begin, tl.minimum(end, begin + length), works, cut


@triton.jit
def join_kernel(
    partial,
    out,
    offsets,
    units,
    first,
    length,
    width,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    U: tl.constexpr,
):
    """Where a piece is the first of its unit: the sum of all its partial rows (pieces D)."""
    program = tl.program_id(0)
    unit = tl.load(units + program)
    if unit >= width:
        return
    if tl.load(first + unit) != program:
        return
    slots = tl.load(offsets + unit + 1) - tl.load(offsets + unit)
    pieces = ((slots + length - 1) // length).to(tl.int32)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, pieces, U):
        row = start + tl.arange(0, U)
        address = partial + (program + row).to(tl.int64)[:, None] * D + column[None, :]
        live = (row < pieces)[:, None] & (column < D)[None, :]
        total += tl.sum(tl.load(address, mask=live, other=0), axis=0)
    tl.store(out + unit.to(tl.int64) * D + column, total, mask=column < D)


def join(partial: Tensor, out: Tensor, offsets: Tensor, split: Split) -> None:
    """Write to out (width d) the units whose pieces' sums are in partial (pieces d, float32)."""
    programs, width = len(split.unit), len(split.first)
    d = out.shape[1] if out.dim() == 2 else 1
    block = min(triton.next_power_of_2(d), COLUMNS)
    if programs:
        join_kernel[programs, triton.cdiv(d, block)](
            partial,
            out,
            offsets,
            split.unit,
            split.first,
            split.length,
            width,
            d,
            block,
            IN_FLIGHT,
            **{"num_warps": 1} | UNFUSED,
        )


def _entry(d: int, dtype: str) -> Shipped:
    return Shipped(
        f"join {dtype} d={d}",
        join_kernel,
        {
            "partial": "*fp32",
            "out": f"*{dtype}",
            "offsets": "*i32",
            "units": "*i32",
            "first": "*i32",
            "length": "i32",
            "width": "i32",
            "D": d,
            "BLOCK": min(d, COLUMNS),
            "U": IN_FLIGHT,
        },
        warps=1,
        aligned=("length", "width"),
        gathers=d > 1,
        options=UNFUSED,
    )


SHIPPED = [_entry(d, dtype) for d, dtype in product((1, 512, 1024, 2048), ("bf16", "fp32"))]
