"""The entries of many matrices, block by block: values, and keys that know of guarded entries.

A row of the table is: address, entries, columns, blocks of a program, where the bounds of its rows
and those of its columns begin (-1: it has none), its first row; first program, programs.
"""

import triton
import triton.language as tl

from pellucid.kernels.gpu.weight_table import keys_of, top_key, within

FIELDS = tl.constexpr(9)
BLOCK = 2048
PROGRAMS = 512
"""At most, for one matrix: some four for each multiprocessor."""

WARPS = 8

SIGNATURE = {
    "table": "*i64",
    "owner": "*i32",
    "row_bounds": "*i32",
    "column_bounds": "*i32",
    "counted": "*i32",
}
"""What kernels over entries begin with; bounds that no matrix has are None."""


@triton.jit
def my_part(table, owner):
    """A program's matrix and its row of the table, its place among the matrix's programs, its span."""
    program = tl.program_id(0)
    matrix = tl.load(owner + program)
    row = table + matrix.to(tl.int64) * FIELDS
    return matrix, row, program - tl.load(row + 7), tl.load(row + 3)


@triton.jit
def load_block(
    row,
    block,
    row_bounds,
    column_bounds,
    DTYPE: tl.constexpr,
    EVEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block's pointers, values, keys (the top key where guarded), and which are of the matrix.

    EVEN promises that addresses and numbers of entries are multiples of 16: 16 bytes are then
    loaded at a time.
    """
    start = block * BLOCK
    begin = tl.load(row).to(tl.pointer_type(DTYPE)) + start
    size = tl.load(row + 1)
    if EVEN:
        begin = tl.multiple_of(begin, 16)
        size = tl.multiple_of(size, 16)
    offset = tl.arange(0, BLOCK)
    pointer = begin + offset
    inside = start + offset < size
    x = tl.load(pointer, mask=inside, other=0)
    key = keys_of(x)
    if row_bounds is not None or column_bounds is not None:
        guarded = _guarded(key, row, start, offset, inside, row_bounds, column_bounds)
        key = tl.where(guarded, top_key(DTYPE), key)
    return pointer, x, key, inside


@triton.jit
def _guarded(key, row, start, offset, inside, row_bounds, column_bounds):
    columns = tl.load(row + 2)
    # Only the block's first entry needs a division in 64 bits.
    first = start // columns
    ahead = (start - first * columns).to(tl.int32) + offset
    line = first + ahead // columns.to(tl.int32)
    place = ahead % columns.to(tl.int32)
    guarded = key < 0
    if row_bounds is not None:
        begin = tl.load(row + 4)
        guarded |= within(key, place, row_bounds, begin + line, inside & (begin >= 0))
    if column_bounds is not None:
        begin = tl.load(row + 5)
        global_line = line + tl.load(row + 6)
        guarded |= within(key, global_line, column_bounds, begin + place, inside & (begin >= 0))
    return guarded
