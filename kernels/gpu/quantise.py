"""Rows in 8-bit floats: each row's entries over its largest magnitude, times 448."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.gpu.shipped import Shipped
from pellucid.kernels.near import FLOAT8, LARGEST

BLOCK = 2048
"""Columns taken at a time."""

TINY = torch.finfo(torch.float32).tiny
"""The least scale, so that a row of zeros stays one."""


@triton.jit
def quantise_kernel(
    x_ptr,
    out_ptr,
    scale_ptr,
    d,
    stride,
    out_stride,
    LARGEST: tl.constexpr,
    TINY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row: its largest magnitude, then its entries, with zeros up to out_stride."""
    row = tl.program_id(0).to(tl.int64)
    most = tl.zeros([BLOCK], tl.float32)
    for start in range(0, d, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * stride + column, mask=column < d, other=0.0).to(tl.float32)
        most = tl.maximum(most, tl.abs(x), propagate_nan=tl.PropagateNan.ALL)
    unknown = tl.max((most != most).to(tl.int32), axis=0) > 0
    scale = tl.maximum(tl.div_rn(tl.max(most, axis=0), LARGEST), TINY)
    scale = tl.where(unknown, float("nan"), scale)
    tl.store(scale_ptr + row, scale)
    for start in range(0, out_stride, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * stride + column, mask=column < d, other=0.0).to(tl.float32)
        small = e4m3(tl.div_rn(x, scale + tl.zeros([BLOCK], tl.float32)))
        tl.store(out_ptr + row * out_stride + column, small, mask=column < out_stride)


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
        quantise_kernel[(rows,)](
            x,
            out[0].view(torch.uint8),
            out[1],
            d,
            x.stride(0),
            padded,
            *(LARGEST, TINY, block_of(padded)),
            num_warps=warps_of(padded),
            enable_fp_fusion=False,
        )
    return out


def block_of(d: int) -> int:
    """Columns a program takes at a time."""
    return min(triton.next_power_of_2(d), BLOCK)


def warps_of(d: int) -> int:
    """Eight columns a lane: loads of 16 bytes."""
    return max(1, block_of(d) // 256)


def _shipped(kind: str, d: int) -> Shipped:
    signature = {"x_ptr": f"*{kind}", "out_ptr": "*u8", "scale_ptr": "*fp32"}
    signature |= dict.fromkeys(("d", "stride", "out_stride"), "i32")
    signature |= {"LARGEST": LARGEST, "TINY": TINY, "BLOCK": block_of(d)}
    return Shipped(
        f"quantise {kind} d={d}",
        quantise_kernel,
        signature,
        warps=warps_of(d),
        aligned=("d", "stride", "out_stride"),
        gathers=True,
        registers=128,
        options={"enable_fp_fusion": False},
    )


SHIPPED = [
    _shipped(*which) for which in (("bf16", 512), ("bf16", 1024), ("bf16", 4096), ("fp32", 2048))
]
