"""Products at named places only: each row of x times the rows of a matrix that its indices name.

A program takes one row and some of its slots. A warp holds whole rows of the matrix, so that the
products are summed within it, and once for all the columns.
"""

from itertools import product

import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.gpu.shipped import UNFUSED, Shipped

SLOTS = 4
"""Slots of a program: a row of x is read once for that many rows of the matrix."""

COLUMNS = 256
"""Columns in flight; a warp reads that many bfloat16 numbers in 16 bytes per thread."""

WARPS = 1


@triton.jit
def sddmm_kernel(
    x,
    weight,
    indices,
    out,
    K,
    width,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    U: tl.constexpr,
):
    """U slots of one row of the output (rows K)."""
    parts = tl.cdiv(K, U)
    row = (tl.program_id(0) // parts).to(tl.int64)
    slot = tl.program_id(0) % parts * U + tl.arange(0, U)
    unit = tl.load(indices + row * K + slot, mask=slot < K, other=-1)
    named = (unit >= 0) & (unit < width)
    total = tl.zeros([U, BLOCK], tl.float32)
    for start in range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < D
        address = weight + unit.to(tl.int64)[:, None] * D + column[None, :]
        w = tl.load(address, mask=named[:, None] & inside[None, :], other=0).to(tl.float32)
        total += tl.load(x + row * D + column, mask=inside, other=0).to(tl.float32)[None, :] * w
    # A unit that does not exist is never read, and makes itself seen.
    sums = tl.where(unit < width, tl.sum(total, axis=1), float("nan"))
    sums = tl.where(unit < 0, 0.0, sums)
    tl.store(out + row * K + slot, sums, mask=slot < K)


def columns(d: int) -> int:
    """Columns that a program takes at a time."""
    return min(triton.next_power_of_2(d), COLUMNS)


def sddmm(x: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """Products (rows k) of x (rows d) with the rows of weight (width d) that indices (rows k) name.

    Accumulated in float32, in the dtype of x. Index -1 gives 0, an index of width or more NaN.
    """
    (rows, k), (width, d) = indices.shape, weight.shape
    out = x.new_empty(rows, k)
    if not d:
        return out.zero_()
    if out.numel():
        sddmm_kernel[(rows * triton.cdiv(k, SLOTS),)](
            x.contiguous(),
            weight.contiguous(),
            indices.contiguous(),
            out,
            k,
            width,
            d,
            columns(d),
            SLOTS,
            **{"num_warps": WARPS} | UNFUSED,
        )
    return out


def _entry(d: int, dtype: str, ragged: bool = False) -> Shipped:
    pointer = f"*{dtype}"
    return Shipped(
        f"sddmm {dtype} d={d}" + " ragged" * ragged,
        sddmm_kernel,
        {
            "x": pointer,
            "weight": pointer,
            "indices": "*i32",
            "out": pointer,
            "K": "i32",
            "width": "i32",
            "D": d,
            "BLOCK": columns(d),
            "U": SLOTS,
        },
        warps=WARPS,
        aligned=() if ragged else ("K", "width"),
        gathers=True,
        options=UNFUSED,
    )


SHIPPED = [_entry(d, dtype) for d, dtype in product((512, 1024, 2048, 4096), ("bf16", "fp32"))]
SHIPPED += [_entry(2048, dtype, ragged=True) for dtype in ("bf16", "fp32")]
