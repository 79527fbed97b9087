"""The j largest entries of each row, or of each column, of many matrices: their bounds.

Few are found one after the other, each as the largest that comes behind the one before: j passes.
Many are found bit by bit, by counting the keys that are no lower: one pass for each bit of a key.
A program's lines stay in the cache between its passes.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.gpu.shipped import Shipped
from pellucid.kernels.gpu.weight_table import TYPES, keys_of, make_table

FIELDS = tl.constexpr(7)  # address, rows, columns, j, first line; first program, programs
MANY = 16
"""From so many entries on it is cheaper to count bit by bit."""

TILE = 2048
WARPS = 8


def line_bounds(matrices: Sequence[Tensor], j: Sequence[int], *, columns: bool) -> list[Tensor]:
    """`weight_keys.bounds` of the j largest magnitudes of each row, or column, as int32 (lines 2).

    Matrices are contiguous, of one dtype and device; each j is between 1 and the length of a line.
    """
    device, (lines, _) = matrices[0].device, block(matrices[0].dtype, columns)
    sizes = [matrix.shape[int(columns)] for matrix in matrices]
    found = torch.empty(sum(sizes), 2, dtype=torch.int32, device=device)
    parts = found.split(sizes)
    fields = [
        [matrix.data_ptr(), *matrix.shape, count, part.storage_offset() // 2]
        for matrix, count, part in zip(matrices, j, parts, strict=True)
    ]
    table = make_table(fields, [triton.cdiv(size, lines) for size in sizes], device)
    kernel: Any = largest_by_bits if max(j) >= MANY else largest_in_turn
    if len(table.owner):
        kernel[(len(table.owner),)](
            *table, found, **settings(matrices[0].dtype, columns), num_warps=WARPS
        )
    return list(parts)


def block(dtype: torch.dtype, columns: bool) -> tuple[int, int]:
    """Lines of a program and entries of each at a time: whole memory sectors, and enough programs."""
    lines = 32 // dtype.itemsize if columns else 4
    return lines, TILE // lines


def settings(dtype: torch.dtype, columns: bool) -> dict:
    """The compile-time arguments of both kernels."""
    lines, chunk = block(dtype, columns)
    return {"DTYPE": TYPES[dtype], "COLUMNS": columns, "LINES": lines, "CHUNK": chunk}


@triton.jit
def _begin(table, owner, COLUMNS: tl.constexpr, LINES: tl.constexpr):
    """A program's row of the table, its lines (LINES), the number of lines, and their length."""
    program = tl.program_id(0)
    row = table + tl.load(owner + program).to(tl.int64) * FIELDS
    rows = tl.load(row + 1).to(tl.int32)
    columns = tl.load(row + 2).to(tl.int32)
    line = (program - tl.load(row + 5).to(tl.int32)) * LINES + tl.arange(0, LINES)
    if COLUMNS:
        return row, line, columns, rows
    return row, line, rows, columns


@triton.jit
def _keys(
    row,
    line,
    start,
    count,
    length,
    DTYPE: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Keys (LINES, CHUNK) from `start` on, -1 outside of the matrix, and their places (1, CHUNK)."""
    place = start + tl.arange(0, CHUNK)[None, :]
    inside = (line[:, None] < count) & (place < length)
    if COLUMNS:
        offset = place.to(tl.int64) * count + line[:, None]
    else:
        offset = line.to(tl.int64)[:, None] * length + place
    x = tl.load(tl.load(row).to(tl.pointer_type(DTYPE)) + offset, mask=inside, other=0)
    return tl.where(inside, keys_of(x), -1), place


@triton.jit
def _store(row, line, count, lowest, last, found):
    slot = found + 2 * (tl.load(row + 4) + line)
    tl.store(slot, lowest.to(tl.int32), mask=line < count)
    tl.store(slot + 1, last.to(tl.int32), mask=line < count)


@triton.jit
def largest_in_turn(
    table,
    owner,
    found,
    DTYPE: tl.constexpr,
    COLUMNS: tl.constexpr,
    LINES: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Bounds of LINES lines: j times the largest pair of key and place below the one before."""
    row, line, count, length = _begin(table, owner, COLUMNS, LINES)
    before = tl.full([LINES], 0x7FFFFFFFFFFFFFFF, tl.int64)
    for _ in range(tl.load(row + 3)):
        best = tl.full([LINES], -1, tl.int64)
        for start in range(0, length, CHUNK):
            key, place = _keys(row, line, start, count, length, DTYPE, COLUMNS, CHUNK)
            # Of equal keys the one at the lowest place is the larger pair; no two pairs are equal.
            pair = (key.to(tl.int64) << 32) | (0x7FFFFFFF - place)
            pair = tl.where((key >= 0) & (pair < before[:, None]), pair, -1)
            best = tl.maximum(best, tl.max(pair, axis=1))
        before = best
    _store(row, line, count, before >> 32, 0x7FFFFFFF - (before & 0x7FFFFFFF), found)


@triton.jit
def largest_by_bits(
    table,
    owner,
    found,
    DTYPE: tl.constexpr,
    COLUMNS: tl.constexpr,
    LINES: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Bounds of LINES lines: the highest key that j keys reach, and where its last tie has room."""
    row, line, count, length = _begin(table, owner, COLUMNS, LINES)
    j = tl.load(row + 3).to(tl.int32)
    lowest = tl.zeros([LINES], tl.int32)
    room = tl.zeros([LINES], tl.int32) + j
    bits: tl.constexpr = DTYPE.primitive_bitwidth - 1
    for bit in range(bits):
        tried = lowest | (1 << (bits - 1 - bit))
        reached = tl.zeros([LINES], tl.int32)
        for start in range(0, length, CHUNK):
            key, _ = _keys(row, line, start, count, length, DTYPE, COLUMNS, CHUNK)
            reached += tl.sum((key >= tried[:, None]).to(tl.int32), axis=1)
        lowest = tl.where(reached >= j, tried, lowest)
        # The last that too few reach is the threshold plus one: what is above leaves this room.
        room = tl.where(reached >= j, room, j - reached)
    seen = tl.zeros([LINES], tl.int32)
    last = tl.full([LINES], -1, tl.int32)
    for start in range(0, length, CHUNK):
        key, place = _keys(row, line, start, count, length, DTYPE, COLUMNS, CHUNK)
        tie = (key == lowest[:, None]).to(tl.int32)
        kept = (tie > 0) & (seen[:, None] + tl.cumsum(tie, axis=1) <= room[:, None])
        last = tl.maximum(last, tl.max(tl.where(kept, place, -1), axis=1))
        seen += tl.sum(tie, axis=1)
    _store(row, line, count, lowest, last, found)


def _shipped(dtype: torch.dtype, columns: bool, kernel) -> Shipped:
    word = {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
    pointers = {"table": "*i64", "owner": "*i32", "found": "*i32"}
    axis = "columns" if columns else "rows"
    signature = pointers | settings(dtype, columns)
    return Shipped(f"{kernel.__name__} {axis} {word}", kernel, signature, warps=WARPS)


SHIPPED = [
    _shipped(dtype, columns, kernel)
    for kernel in (largest_in_turn, largest_by_bits)
    for dtype in (torch.float32, torch.bfloat16)
    for columns in (False, True)
]
