"""Projection of many matrices to their largest entries: a few launches for all of one dtype.

For each digit of the keys, from the top down, one launch counts it in every block and one adds the
counts up and picks the answer's digit; a last one writes. Float32 is so read five times and
written once, 16-bit floats three times and once. Nothing waits for the device.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.gpu.weight_digits import (
    ADDING,
    ADDING_WARPS,
    BINS,
    DIGIT_BITS,
    choose_digit,
    count_digits,
    kinds,
    total_counts,
)
from pellucid.kernels.gpu.weight_entries import (
    BLOCK,
    PROGRAMS,
    SIGNATURE,
    WARPS,
    load_block,
    my_part,
)
from pellucid.kernels.gpu.weight_lines import line_bounds
from pellucid.kernels.gpu.weight_table import TYPES, make_table, to_device, top_key
from pellucid.kernels.weight_keys import highest
from pellucid.kernels.weight_radix import digits


def weight_topk_(
    weights: Sequence[Tensor],
    keep: Sequence[int],
    per_row: Sequence[int],
    per_column: Sequence[int],
) -> None:
    """Project contiguous matrices of one dtype in place, those of an odd size in their own launches."""
    jobs = list(zip(weights, keep, per_row, per_column, strict=True))
    for even in (True, False):
        alike = [job for job in jobs if is_even(job[0]) == even]
        if alike:
            _project(*zip(*alike))


def _project(
    weights: Sequence[Tensor],
    keep: Sequence[int],
    per_row: Sequence[int],
    per_column: Sequence[int],
) -> None:
    rows = guard_lines(weights, per_row, columns=False)
    columns = guard_lines(weights, per_column, columns=True)
    entries = TritonEntries(weights, rows, columns)
    prefix, room = torch.zeros_like(entries.none), to_device(keep, torch.int64, entries.device)
    if any(keep):
        for shift, above in digits(entries.dtype, DIGIT_BITS):
            entries.count(prefix, shift, above)
            entries.add(choose_digit, prefix, room, above - shift)
    else:  # the guarded entries alone
        prefix.fill_(highest(entries.dtype))
    entries.cut(prefix, room)


def is_even(weight: Tensor) -> bool:
    """Whether address and size allow 16 bytes to be loaded at a time."""
    return weight.data_ptr() % 16 == 0 and weight.numel() % 16 == 0


def guard_lines(
    weights: Sequence[Tensor], j: Sequence[int], *, columns: bool
) -> list[Tensor | None]:
    """`line_bounds` of the matrices that guard any; None for the others."""
    guarded = [(weight, count) for weight, count in zip(weights, j, strict=True) if count]
    found = iter(line_bounds(*zip(*guarded), columns=columns) if guarded else ())
    return [next(found) if count else None for count in j]


class TritonEntries:
    """`weight_radix.Entries` on a CUDA device; `rows` and `columns` are bounds (lines 2) or None."""

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
        bounds, begins = zip(_joined(rows), _joined(columns))
        fields = [
            [weight.data_ptr(), weight.numel(), weight.shape[1], *rest]
            for weight, *rest in zip(weights, span, *begins, first_row or [0] * len(weights))
        ]
        table = make_table(fields, programs, self.device)
        self.counted = torch.empty(sum(programs), BINS, dtype=torch.int32, device=self.device)
        self.none = torch.zeros(len(weights), dtype=torch.int64, device=self.device)
        self.arguments = *table, *bounds, self.counted
        self.settings = {
            "DTYPE": TYPES[self.dtype],
            "EVEN": all(map(is_even, weights)),
            "BLOCK": BLOCK,
            "BINS": BINS,
        }

    def counts(self, prefix: Tensor, shift: int, above: int) -> Tensor:
        """Each matrix's counts of a digit; shapes as in `weight_radix.Entries`."""
        self.count(prefix, shift, above)
        total = torch.empty(len(self.none), BINS, dtype=torch.int64, device=self.device)
        self.add(total_counts, total)
        return total[:, : 1 << (above - shift)]

    def count(self, prefix: Tensor, shift: int, above: int) -> None:
        """Each program's counts of a digit, into `counted`."""
        self._launch(count_digits, prefix, shift, above)

    def add(self, kernel, *arguments: Tensor | int) -> None:
        """What `kernel` does with the counts of each matrix."""
        table = self.arguments[0]
        kernel[(len(table),)](table, self.counted, *arguments, **ADDING, num_warps=ADDING_WARPS)

    def cut(self, threshold: Tensor, room: Tensor) -> None:
        """Zero what goes; `counted` holds the counts of the last digit."""
        self._launch(cut_entries, threshold, room, PROGRAMS=PROGRAMS)

    def _launch(self, kernel, *arguments: Tensor | int, **more: int) -> None:
        if len(self.counted):
            kernel[(len(self.counted),)](
                *self.arguments, *arguments, **self.settings, **more, num_warps=WARPS
            )


ENTRIES = TritonEntries


def _joined(bounds: Sequence[Tensor | None]) -> tuple[Tensor | None, list[int]]:
    """Bounds one after the other, and where each begins; -1 where there are none."""
    known = [part.to(torch.int32) for part in bounds if part is not None]
    starts = accumulate((0 if part is None else len(part) for part in bounds), initial=0)
    begins = [-1 if part is None else start for part, start in zip(bounds, starts)]
    return torch.cat(known) if known else None, begins


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
    EVEN: tl.constexpr,
    BLOCK: tl.constexpr,
    BINS: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    """Zeros below the matrix's threshold, and for its ties from where there is no room on."""
    matrix, row, part, span = my_part(table, owner)
    threshold = tl.load(thresholds + matrix).to(tl.int32)
    room = tl.load(rooms + matrix)
    crowded = False
    if threshold != top_key(DTYPE):  # guarded entries all stay
        room, crowded = _room(row, part, counted, threshold, room, BINS, PROGRAMS)
    for block in range(part * span, (part + 1) * span):
        pointer, x, key, inside = load_block(
            row, block, row_bounds, column_bounds, DTYPE, EVEN, BLOCK
        )
        kept = key >= threshold
        if crowded:
            tie = (inside & (key == threshold)).to(tl.int32)
            kept = (key > threshold) | (kept & (tl.cumsum(tie, axis=0) <= room))
            room -= tl.sum(tie, axis=0)
        tl.store(pointer, tl.where(kept, x, 0.0), mask=inside)


CUT = SIGNATURE | {"thresholds": "*i64", "rooms": "*i64"}
SHIPPED = kinds(CUT, cut_entries, BINS=BINS, PROGRAMS=PROGRAMS)
