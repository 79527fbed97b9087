"""Counts of a digit of the keys of many matrices, and the digit of the answer (`weight_radix.py`).

Each program counts for itself, and one program for each matrix adds up: no order of adding
integers changes their sum, so the result is the same bits on every device.
"""

import torch
import triton
import triton.language as tl

from pellucid.kernels.gpu.shipped import Shipped
from pellucid.kernels.gpu.weight_entries import (
    BLOCK,
    FIELDS,
    SIGNATURE,
    WARPS,
    load_block,
    my_part,
)
from pellucid.kernels.gpu.weight_table import TYPES

DIGIT_BITS = 8
BINS = 1 << DIGIT_BITS
ADDING = {"BINS": BINS, "TILE": 64}
ADDING_WARPS = 16  # a matrix's counts are added up by one program


@triton.jit(do_not_specialize=["shift", "above"])
def count_digits(
    table,
    owner,
    row_bounds,
    column_bounds,
    counted,
    prefix,
    shift,
    above,
    DTYPE: tl.constexpr,
    EVEN: tl.constexpr,
    BLOCK: tl.constexpr,
    BINS: tl.constexpr,
):
    """(programs BINS): how often bits `shift` to `above` occur below the matrix's prefix."""
    matrix, row, part, span = my_part(table, owner)
    wanted = tl.load(prefix + matrix).to(tl.int32)
    count = tl.zeros([BINS], tl.int32)
    for block in range(part * span, (part + 1) * span):
        _, _, key, inside = load_block(row, block, row_bounds, column_bounds, DTYPE, EVEN, BLOCK)
        digit = (key >> shift) & ((1 << (above - shift)) - 1)
        count += tl.histogram(digit, BINS, mask=inside & ((key >> above) == wanted))
    slot = tl.program_id(0).to(tl.int64) * BINS + tl.arange(0, BINS)
    tl.store(counted + slot, count)


@triton.jit
def _total(row, counted, BINS: tl.constexpr, TILE: tl.constexpr):
    """A matrix's counts, int64 (BINS), of those of its programs."""
    first = tl.load(row + 7)
    programs = tl.load(row + 8)
    total = tl.zeros([BINS], tl.int64)
    for start in range(0, programs, TILE):
        program = start + tl.arange(0, TILE)[:, None]
        slot = (first + program) * BINS + tl.arange(0, BINS)[None, :]
        count = tl.load(counted + slot, mask=program < programs, other=0)
        total += tl.sum(count, axis=0).to(tl.int64)
    return total


@triton.jit
def total_counts(table, counted, total, BINS: tl.constexpr, TILE: tl.constexpr):
    """(programs BINS) to int64 (matrices BINS)."""
    matrix = tl.program_id(0).to(tl.int64)
    sums = _total(table + matrix * FIELDS, counted, BINS, TILE)
    tl.store(total + matrix * BINS + tl.arange(0, BINS), sums)


@triton.jit(do_not_specialize=["bits"])
def choose_digit(table, counted, prefix, room, bits, BINS: tl.constexpr, TILE: tl.constexpr):
    """`weight_radix.pick`, in place: the digit joins the prefix, and room is what is left in it."""
    matrix = tl.program_id(0).to(tl.int64)
    total = _total(table + matrix * FIELDS, counted, BINS, TILE)
    wanted = tl.load(room + matrix)
    reach = tl.cumsum(total, axis=0, reverse=True)
    # Where nothing is wanted every digit reaches it, also those that `bits` bits do not have.
    digit = tl.minimum(tl.sum((reach >= wanted).to(tl.int32), axis=0), 1 << bits) - 1
    higher = tl.sum(tl.where(tl.arange(0, BINS) > digit, total, 0), axis=0)
    tl.store(room + matrix, wanted - higher)
    tl.store(prefix + matrix, (tl.load(prefix + matrix) << bits) | digit)


def kinds(signature: dict, kernel, **more) -> list[Shipped]:
    """A kernel over entries for each kind of matrix: dtype, guarded lines, even or not."""
    none = {"row_bounds": None, "column_bounds": None}
    guards = {
        "": none,
        " rows": {"column_bounds": None},
        " columns": {"row_bounds": None},
        " both": {},
    }
    listed = [
        (torch.float32, "", True),
        (torch.float32, "", False),
        (torch.float32, " rows", True),
        (torch.float32, " columns", True),
        (torch.float32, " both", True),
        (torch.bfloat16, "", True),
        (torch.bfloat16, " both", True),
    ]
    return [
        Shipped(
            f"{kernel.__name__} {str(dtype)[6:]}{guard}{'' if even else ' uneven'}",
            kernel,
            signature
            | guards[guard]
            | {"DTYPE": TYPES[dtype], "EVEN": even, "BLOCK": BLOCK}
            | more,
            warps=WARPS,
            registers=128 if even else 160,
            gathers=even,
        )
        for dtype, guard, even in listed
    ]


COUNT = SIGNATURE | {"prefix": "*i64", "shift": "i32", "above": "i32"}
CHOOSE = {"table": "*i64", "counted": "*i32", "prefix": "*i64", "room": "*i64", "bits": "i32"}
TOTAL = {"table": "*i64", "counted": "*i32", "total": "*i64"}

SHIPPED = [
    *kinds(COUNT, count_digits, BINS=BINS),
    Shipped("choose_digit", choose_digit, CHOOSE | ADDING, warps=ADDING_WARPS),
    Shipped("total_counts", total_counts, TOTAL | ADDING, warps=ADDING_WARPS),
]
