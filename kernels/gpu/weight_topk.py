"""Projection of many matrices to their largest entries: a few launches for all of one dtype.

For each digit of the keys, from the top down, one launch counts it in every block and one adds the
counts up and picks the answer's digit (`weight_radix.py`); a last one writes. Float32 is so read
five times and written once. The counts are integers: any order of adding gives the same.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.gpu.shipped import Shipped
from pellucid.kernels.gpu.weight_lines import line_bounds
from pellucid.kernels.gpu.weight_table import (
    Table,
    address,
    constants,
    keys_of,
    make_table,
    to_device,
    within,
)
from pellucid.kernels.weight_keys import highest
from pellucid.kernels.weight_radix import digits

# address, entries, columns, blocks of a program, where the bounds of its rows and of its columns
# begin (-1: it has none), its first row; first program, programs.
FIELDS = tl.constexpr(9)
DIGIT_BITS = 8
BINS = 1 << DIGIT_BITS
BLOCK = 4096
PROGRAMS = 256
"""At most, for one matrix: nearly two for each multiprocessor, and as many counts to add up."""

WARPS = 8


def weight_topk_(
    weights: Sequence[Tensor],
    keep: Sequence[int],
    per_row: Sequence[int],
    per_column: Sequence[int],
) -> None:
    """Project contiguous matrices of one dtype in place, without waiting for the device."""
    rows = guard_lines(weights, per_row, columns=False)
    columns = guard_lines(weights, per_column, columns=True)
    entries = TritonEntries(weights, rows, columns)
    if not any(keep):  # the guarded entries alone
        entries.cut(torch.full_like(entries.none, highest(weights[0].dtype)), entries.none)
        return
    prefix, room = torch.zeros_like(entries.none), to_device(keep, torch.int64, entries.device)
    for shift, above in digits(weights[0].dtype, DIGIT_BITS):
        entries.count(prefix, shift, above)
        choose_digit[(len(weights),)](
            entries.table.rows, entries.counted, prefix, room, above - shift, BINS=BINS
        )
    entries.cut(prefix, room)


def guard_lines(
    weights: Sequence[Tensor], j: Sequence[int], *, columns: bool
) -> list[Tensor | None]:
    """`line_bounds` of the matrices that guard any; None for the others."""
    guarded = [(weight, count) for weight, count in zip(weights, j, strict=True) if count]
    found = iter(line_bounds(*zip(*guarded), columns=columns) if guarded else ())
    return [next(found) if count else None for count in j]


class TritonEntries:
    """`weight_radix.Entries` on a CUDA device; `rows` and `columns` are bounds, int32 (lines 2)."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        rows: Sequence[Tensor | None],
        columns: Sequence[Tensor | None],
        first_row: Sequence[int] | None = None,
    ):
        self.device, self.dtype = weights[0].device, weights[0].dtype
        blocks = [triton.cdiv(weight.numel(), BLOCK) for weight in weights]
        span = [max(triton.cdiv(count, PROGRAMS), 1) for count in blocks]
        programs = [triton.cdiv(*pair) for pair in zip(blocks, span)]
        self.rows, row_starts = _joined(rows, self.device)
        self.columns, column_starts = _joined(columns, self.device)
        addresses = [weight.data_ptr() for weight in weights]
        sizes = [(weight.numel(), weight.shape[1]) for weight in weights]
        starts = zip(row_starts, column_starts, first_row or [0] * len(weights))
        fields = [[a, *n, s, *rest] for a, n, s, rest in zip(addresses, sizes, span, starts)]
        self.table: Table = make_table(fields, programs, self.device)
        self.programs = sum(programs)
        self.counted = torch.empty(self.programs, BINS, dtype=torch.int32, device=self.device)
        self.none = torch.zeros(len(weights), dtype=torch.int64, device=self.device)
        self.settings = constants(self.dtype) | {
            "ROWS": any(bounds is not None for bounds in rows),
            "COLUMNS": any(bounds is not None for bounds in columns),
            "ALIGNED": all(place % 16 == 0 for place in addresses),
            "BLOCK": BLOCK,
            "BINS": BINS,
        }

    def count(self, prefix: Tensor, shift: int, above: int) -> None:
        """Each program's counts of a digit, into `counted`."""
        self._launch(count_digits, prefix, shift, above)

    def counts(self, prefix: Tensor, shift: int, above: int) -> Tensor:
        """The same, added up for each matrix."""
        self.count(prefix, shift, above)
        total = torch.empty(len(self.none), BINS, dtype=torch.int64, device=self.device)
        total_counts[(len(self.none),)](self.table.rows, self.counted, total, BINS=BINS)
        return total[:, : 1 << (above - shift)]

    def cut(self, threshold: Tensor, room: Tensor) -> None:
        """Zero what goes; `counted` must hold the last digit's counts."""
        self._launch(cut_entries, threshold, room, PROGRAMS=PROGRAMS)

    def _launch(self, kernel, *arguments, **more) -> None:
        if self.programs:
            kernel[(self.programs,)](
                *self.table, self.rows, self.columns, self.counted, *arguments,
                **self.settings, **more, num_warps=WARPS,
            )  # fmt: skip


def _joined(bounds: Sequence[Tensor | None], device: torch.device) -> tuple[Tensor, list[int]]:
    """Bounds one after the other, and where each begins; -1 where there are none."""
    lengths = [0 if part is None else len(part) for part in bounds]
    starts = accumulate(lengths, initial=0)
    known = [part.to(torch.int32) for part in bounds if part is not None]
    joined = torch.cat(known) if known else torch.empty(0, 2, dtype=torch.int32, device=device)
    return joined, [-1 if part is None else start for part, start in zip(bounds, starts)]


@triton.jit
def _part(table, owner):
    """A program's matrix and its row of the table, its place among the matrix's programs, its span."""
    program = tl.program_id(0)
    matrix = tl.load(owner + program)
    row = table + matrix.to(tl.int64) * FIELDS
    return matrix, row, program - tl.load(row + 7), tl.load(row + 3)


@triton.jit
def _load(
    row,
    block,
    row_bounds,
    column_bounds,
    DTYPE: tl.constexpr,
    BITS: tl.constexpr,
    NAN: tl.constexpr,
    TOP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block's pointers, values, keys (`TOP` where guarded), and which lie within the matrix."""
    size = tl.load(row + 1)
    columns = tl.load(row + 2)
    start = block * BLOCK
    base = address(row, DTYPE)
    if ALIGNED:
        base = tl.multiple_of(base, 16)
    offset = tl.arange(0, BLOCK)
    pointer = base + start + offset
    inside = start + offset < size
    x = tl.load(pointer, mask=inside, other=0)
    key = keys_of(x, BITS, NAN)
    if ROWS or COLUMNS:
        # Only the block's first entry needs a division in 64 bits.
        first = start // columns
        ahead = (start - first * columns).to(tl.int32) + offset
        line = first + ahead // columns.to(tl.int32)
        place = ahead % columns.to(tl.int32)
        guarded = offset < 0
        if ROWS:
            begin = tl.load(row + 4)
            guarded |= within(key, place, row_bounds, begin + line, inside & (begin >= 0))
        if COLUMNS:
            begin = tl.load(row + 5)
            global_line = line + tl.load(row + 6)
            known = inside & (begin >= 0)
            guarded |= within(key, global_line, column_bounds, begin + place, known)
        key = tl.where(guarded, TOP, key)
    return pointer, x, key, inside


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
    BITS: tl.constexpr,
    NAN: tl.constexpr,
    TOP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
    BINS: tl.constexpr,
):
    """Counts of bits `shift` to `above` where the higher bits are the matrix's prefix."""
    matrix, row, part, span = _part(table, owner)
    wanted = tl.load(prefix + matrix).to(tl.int32)
    count = tl.zeros([BINS], tl.int32)
    for block in range(part * span, (part + 1) * span):
        _, _, key, inside = _load(
            row,
            block,
            row_bounds,
            column_bounds,
            DTYPE,
            BITS,
            NAN,
            TOP,
            ROWS,
            COLUMNS,
            ALIGNED,
            BLOCK,
        )
        digit = (key >> shift) & ((1 << (above - shift)) - 1)
        count += tl.histogram(digit, BINS, mask=inside & ((key >> above) == wanted))
    slot = tl.program_id(0).to(tl.int64) * BINS + tl.arange(0, BINS)
    tl.store(counted + slot, count)


@triton.jit
def _total(row, counted, BINS: tl.constexpr, TILE: tl.constexpr):
    """A matrix's counts, int64 (BINS), of those of its programs."""
    first = tl.load(row + 7)
    programs = tl.load(row + 8)
    digit = tl.arange(0, BINS)
    total = tl.zeros([BINS], tl.int64)
    for start in range(0, programs, TILE):
        program = start + tl.arange(0, TILE)[:, None]
        slot = (first + program) * BINS + digit[None, :]
        total += tl.sum(tl.load(counted + slot, mask=program < programs, other=0).to(tl.int64), 0)
    return total


@triton.jit
def total_counts(table, counted, total, BINS: tl.constexpr):
    """(programs BINS) to (matrices BINS)."""
    matrix = tl.program_id(0).to(tl.int64)
    sums = _total(table + matrix * FIELDS, counted, BINS, 16)
    tl.store(total + matrix * BINS + tl.arange(0, BINS), sums)


@triton.jit(do_not_specialize=["bits"])
def choose_digit(table, counted, prefix, room, bits, BINS: tl.constexpr):
    """`weight_radix.pick`, in place: the digit joins the prefix, and room is what is left in it."""
    matrix = tl.program_id(0).to(tl.int64)
    total = _total(table + matrix * FIELDS, counted, BINS, 16)
    wanted = tl.load(room + matrix)
    reach = tl.cumsum(total, axis=0, reverse=True)
    digit = tl.minimum(tl.sum((reach >= wanted).to(tl.int32), axis=0), 1 << bits) - 1
    higher = tl.sum(tl.where(tl.arange(0, BINS) > digit, total, 0), axis=0)
    tl.store(room + matrix, wanted - higher)
    tl.store(prefix + matrix, (tl.load(prefix + matrix) << bits) | digit)


@triton.jit
def _room(row, part, counted, threshold, room, BINS: tl.constexpr, PROGRAMS: tl.constexpr):
    """How many ties this program may keep: what those before it leave; and whether it has more."""
    digit = threshold & (BINS - 1)
    program = tl.arange(0, PROGRAMS)
    slot = (tl.load(row + 7) + program) * BINS + digit
    ties = tl.load(counted + slot, mask=program <= part, other=0).to(tl.int64)
    left = room - tl.sum(tl.where(program < part, ties, 0), axis=0)
    return left, tl.sum(tl.where(program == part, ties, 0), axis=0) > left


@triton.jit
def cut_entries(
    table,
    owner,
    row_bounds,
    column_bounds,
    counted,
    thresholds,
    rooms,
    DTYPE: tl.constexpr,
    BITS: tl.constexpr,
    NAN: tl.constexpr,
    TOP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
    BINS: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    """Zeros below the matrix's threshold, and for its ties from where there is no room on."""
    matrix, row, part, span = _part(table, owner)
    threshold = tl.load(thresholds + matrix).to(tl.int32)
    room = tl.load(rooms + matrix)
    crowded = False
    # Guarded entries all stay.
    if threshold != TOP:
        room, crowded = _room(row, part, counted, threshold, room, BINS, PROGRAMS)
    for block in range(part * span, (part + 1) * span):
        pointer, x, key, inside = _load(
            row,
            block,
            row_bounds,
            column_bounds,
            DTYPE,
            BITS,
            NAN,
            TOP,
            ROWS,
            COLUMNS,
            ALIGNED,
            BLOCK,
        )
        kept = key >= threshold
        if crowded:
            tie = (inside & (key == threshold)).to(tl.int32)
            kept = (key > threshold) | (kept & (tl.cumsum(tie, axis=0) <= room))
            room -= tl.sum(tie, axis=0)
        tl.store(pointer, tl.where(kept, x, 0.0), mask=inside)


TABLE = {"table": "*i64", "owner": "*i32"}
ENTRIES = TABLE | {"row_bounds": "*i32", "column_bounds": "*i32", "counted": "*i32"}
COUNT = ENTRIES | {"prefix": "*i64", "shift": "i32", "above": "i32"}
CUT = ENTRIES | {"thresholds": "*i64", "rooms": "*i64"}


def _shipped(dtype: torch.dtype, rows: bool, columns: bool) -> list[Shipped]:
    """Counting and cutting of one kind of matrix."""
    settings = constants(dtype) | {"ROWS": rows, "COLUMNS": columns, "ALIGNED": True}
    settings |= {"BLOCK": BLOCK, "BINS": BINS}
    word = {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
    word += " guarded rows" * rows + " guarded columns" * columns
    cut = CUT | settings | {"PROGRAMS": PROGRAMS}
    return [
        Shipped(f"count_digits {word}", count_digits, COUNT | settings, warps=WARPS),
        Shipped(f"cut_entries {word}", cut_entries, cut, warps=WARPS),
    ]


SHIPPED = [
    *_shipped(torch.float32, False, False),
    *_shipped(torch.float32, True, False),
    *_shipped(torch.float32, False, True),
    *_shipped(torch.float32, True, True),
    *_shipped(torch.bfloat16, False, False),
    *_shipped(torch.bfloat16, True, True),
    Shipped(
        "choose_digit",
        choose_digit,
        {"table": "*i64", "counted": "*i32", "prefix": "*i64", "room": "*i64", "bits": "i32"}
        | {"BINS": BINS},
    ),
    Shipped(
        "total_counts",
        total_counts,
        {"table": "*i64", "counted": "*i32", "total": "*i64", "BINS": BINS},
    ),
]
