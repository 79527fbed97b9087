"""Rows in 8-bit floats: each row's entries over its largest magnitude, times 448."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.gpu.shipped import Shipped
from pellucid.kernels.near import FLOAT8, LARGEST

ENTRIES = 2048
"""Entries that a program takes at a time."""

WARPS = 8
"""For eight entries a lane: loads of 16 bytes."""

OPTIONS = {"enable_fp_fusion": False}
"""What keeps the bits the same whichever compiler makes the kernel."""

TINY = torch.finfo(torch.float32).tiny
"""The least scale, so that a row of zeros stays one."""


@triton.jit
def quantise_kernel(
    x_ptr,
    out_ptr,
    scale_ptr,
    rows,
    d,
    stride,
    out_stride,
    LARGEST: tl.constexpr,
    TINY: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """ROWS rows: their largest magnitudes, then their entries, with zeros up to out_stride."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    known = row < rows
    most = tl.zeros([ROWS, BLOCK], tl.int32)  # magnitudes are ordered as their bits, NaN is largest
    for start in range(0, d, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        x = tl.load(x_ptr + row * stride + column, mask=known & (column < d), other=0.0)
        most = tl.maximum(most, x.to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF)
    most = tl.max(most, axis=1, keep_dims=True).to(tl.float32, bitcast=True)
    scale = tl.div_rn(most, tl.full([ROWS, 1], LARGEST, tl.float32))
    scale = tl.maximum(scale, TINY, propagate_nan=tl.PropagateNan.ALL)
    tl.store(scale_ptr + row, scale, mask=known)
    for start in range(0, out_stride, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        x = tl.load(x_ptr + row * stride + column, mask=known & (column < d), other=0.0)
        x = tl.div_rn(x.to(tl.float32), tl.broadcast_to(scale, [ROWS, BLOCK]))
        tl.store(out_ptr + row * out_stride + column, e4m3(x), mask=known & (column < out_stride))


@triton.jit
def e4m3(x):
    """The bits (uint8) of the float8_e4m3fn nearest to x, ties to even; |x| is at most 448 or NaN.

    By integers, because not every architecture has the conversion. 20 of 23 bits of mantissa go,
    rounded, and the exponent's offset falls from 127 to 7. Below 2^-6 the step is 2^-9, that of
    float32 at 2^14: an addition there rounds.
    """
    size = tl.abs(x)
    bits = size.to(tl.int32, bitcast=True)
    code = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - ((127 - 7) << 3)
    least = (size + 16384.0).to(tl.int32, bitcast=True) - 0x46800000
    code = tl.where(size < 0.015625, least, code)
    code = tl.where(x == x, code, 0x7F)
    sign = (x.to(tl.int32, bitcast=True) >> 24) & 0x80
    return (code | sign).to(tl.uint8)


def quantise(x: Tensor, multiple: int = 16) -> tuple[Tensor, Tensor]:
    """Rows of x (rows d) as float8_e4m3fn times a float32 scale (rows 1), as `near.quantise` says.

    Columns of zeros fill a row up to a `multiple`.
    """
    x = x if x.stride(1) == 1 else x.contiguous()
    rows, d = x.shape
    padded = -(-d // multiple) * multiple
    out = x.new_empty(rows, padded, dtype=FLOAT8), x.new_empty(rows, 1, dtype=torch.float32)
    if rows:
        count, block = tile_of(padded)
        quantise_kernel[(triton.cdiv(rows, count),)](
            x,
            out[0].view(torch.uint8),
            out[1],
            rows,
            d,
            x.stride(0),
            padded,
            *(LARGEST, TINY, count, block),
            **{"num_warps": WARPS} | OPTIONS,
        )
    return out


def tile_of(d: int) -> tuple[int, int]:
    """Rows of a program, and the columns that it takes at a time."""
    block = min(triton.next_power_of_2(d), ENTRIES)
    return ENTRIES // block, block


def _shipped(kind: str, d: int) -> Shipped:
    signature = {"x_ptr": f"*{kind}", "out_ptr": "*u8", "scale_ptr": "*fp32"}
    signature |= dict.fromkeys(("rows", "d", "stride", "out_stride"), "i32")
    count, block = tile_of(d)
    signature |= {"LARGEST": LARGEST, "TINY": TINY, "ROWS": count, "BLOCK": block}
    return Shipped(
        f"quantise {kind} d={d}",
        quantise_kernel,
        signature,
        warps=WARPS,
        aligned=("d", "stride", "out_stride"),
        gathers=True,
        options=OPTIONS,
    )


SHIPPED = [
    _shipped(*which) for which in (("bf16", 512), ("bf16", 1024), ("bf16", 4096), ("fp32", 2048))
]
