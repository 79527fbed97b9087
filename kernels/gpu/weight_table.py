"""Many matrices in one launch: a table on the device says where each is and which programs are its.

A matrix is one row of int64, which ends with its first program and the number of its programs.
Kernels turn its address back into a pointer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


class Table(NamedTuple):
    """What kernels know of the matrices of one dtype."""

    rows: Tensor  # int64 (matrices fields)
    owner: Tensor  # int32 (programs): the matrix that a program works on


def make_table(
    fields: Sequence[Sequence[int]], programs: Sequence[int], device: torch.device
) -> Table:
    """A table of `fields` for each matrix, with `programs` for each, in their order."""
    first = [sum(programs[:m]) for m in range(len(programs))]
    rows = [[*row, first[m], programs[m]] for m, row in enumerate(fields)]
    owner = [m for m, count in enumerate(programs) for _ in range(count)]
    return Table(to_device(rows, torch.int64, device), to_device(owner, torch.int32, device))


def to_device(numbers: Sequence, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers as a tensor, without waiting for what the device does meanwhile."""
    pinned = device.type == "cuda"
    return torch.tensor(numbers, dtype=dtype, pin_memory=pinned).to(device, non_blocking=True)


@triton.jit
def keys_of(x):
    """Magnitudes as int32 that order alike, every NaN one above infinity (`weight_keys.keys`)."""
    if x.dtype == tl.float32:
        return tl.minimum(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 0x7F800001)
    else:  # what follows a bare `return` would be compiled all the same
        bits = x.to(tl.int16, bitcast=True).to(tl.int32) & 0x7FFF
        return tl.minimum(bits, 0x7F81 if x.dtype == tl.bfloat16 else 0x7C01)


@triton.jit
def top_key(DTYPE: tl.constexpr):
    """The key of guarded entries (`weight_keys.highest`)."""
    return 0x7FFFFFFF if tl.float32 == DTYPE else 0x7FFF


@triton.jit
def within(key, place, bounds, line, known):
    """Whether a key at its place on a line is one that the line keeps (`weight_keys.bounds`)."""
    lowest = tl.load(bounds + 2 * line, mask=known, other=0x7FFFFFFF)
    last = tl.load(bounds + 2 * line + 1, mask=known, other=-1)
    return (key > lowest) | ((key == lowest) & (place <= last))
