"""The sparse decoder: each row's sum of value times the row of a matrix that its index names.

A program makes one slice of columns of one output row. Every thread loads 16 bytes of each of some
rows of the matrix, so the sum over them needs no exchange between threads. Programs of neighbouring
rows run together, slice by slice: what they share of a slice of the matrix stays in the L2 cache.
The same kernel takes a gradient of the values back to the input through the encoder's rows.
"""

from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.gpu.shipped import UNFUSED, Shipped

IN_FLIGHT = 8
"""Rows of the matrix that a thread waits for at once."""

WARPS = 1
"""A multiprocessor holds 32 programs at most, so a lone warp may have 64 registers per thread: as
many as it takes to keep all those rows in flight. With more warps the assembler aims at fewer."""


@triton.jit
def decode_kernel(
    values,
    indices,
    weight,
    out,
    K,
    width,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    U: tl.constexpr,
):
    """One slice of BLOCK columns of one row of the output (rows D)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < D
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, K, U):
        slot = start + tl.arange(0, U)
        unit = tl.load(indices + row * K + slot, mask=slot < K, other=-1)
        value = tl.load(values + row * K + slot, mask=slot < K, other=0).to(tl.float32)
        # A unit that does not exist is never read, and makes itself seen.
        value = tl.where(unit < 0, 0.0, tl.where(unit < width, value, float("nan")))
        named = (unit >= 0) & (unit < width)
        address = weight + unit.to(tl.int64)[:, None] * D + column[None, :]
        w = tl.load(address, mask=named[:, None] & inside[None, :], other=0).to(tl.float32)
        total += tl.sum(value[:, None] * w, axis=0)
    tl.store(out + row * D + column, total, mask=inside)


def columns(d: int, itemsize: int) -> int:
    """Columns of a program: what one warp loads in 16 bytes per thread, or less if d is small."""
    return min(triton.next_power_of_2(d), 512 // itemsize)


def sparse_decode(
    values: Tensor, indices: Tensor, weight: Tensor, out_dtype: torch.dtype | None = None
) -> Tensor:
    """Output (rows d) from values and indices (rows k) and weight (width d), accumulated in float32.

    Index -1 adds nothing; an index of width or more makes its row NaN. The output has the
    dtype of the weight unless `out_dtype` says otherwise.
    """
    (rows, k), (width, d) = values.shape, weight.shape
    out = weight.new_empty(rows, d, dtype=out_dtype or weight.dtype)
    if not k:
        return out.zero_()
    if out.numel():
        block = columns(d, weight.element_size())
        decode_kernel[rows, triton.cdiv(d, block)](
            values.contiguous(),
            indices.contiguous(),
            weight.contiguous(),
            out,
            k,
            width,
            d,
            block,
            IN_FLIGHT,
            **{"num_warps": WARPS} | UNFUSED,
        )
    return out


def _entry(d: int, dtype: str, ragged: bool = False) -> Shipped:
    pointer = f"*{dtype}"
    return Shipped(
        f"decode {dtype} d={d}" + " ragged" * ragged,
        decode_kernel,
        {
            "values": pointer,
            "indices": "*i32",
            "weight": pointer,
            "out": pointer,
            "K": "i32",
            "width": "i32",
            "D": d,
            "BLOCK": columns(d, 4 if dtype == "fp32" else 2),
            "U": IN_FLIGHT,
        },
        warps=WARPS,
        aligned=() if ragged else ("K", "width"),
        registers=64,
        gathers=True,
        options=UNFUSED,
    )


SHIPPED = [_entry(d, dtype) for d, dtype in product((512, 768, 1024, 2048, 4096), ("bf16", "fp32"))]
SHIPPED += [_entry(2048, dtype, ragged=True) for dtype in ("bf16", "fp32")]
