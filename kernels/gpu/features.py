"""Gradients of the weights in one pass over the slots sorted by unit.

A program takes one unit f with its row of the decoder, and reads the rows of the tokens t on which
f fired, a few at a time, 16 bytes per thread and row. With a the value of f on t, dy the gradient
of the output and x the input:

    decoder half:  g = <dy[t], w_dec[f]>,  d_w_dec[f] = sum of a dy[t]
    encoder half:  d_w_enc[f] = sum of g x[t],  d_b_enc[f] = sum of g

g is rounded to the type of the values before the encoder half uses it, and tiles and order are the
same for both halves and either, so all of them give the same bits. A row too wide for one program
has g computed first, by `sddmm`, and then a program per unit and slice of columns.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.csc import FeatureGradients, unit_of_slots
from pellucid.kernels.gpu.sddmm import sddmm
from pellucid.kernels.gpu.shipped import UNFUSED, Shipped
from pellucid.kernels.gpu.split import join, piece, split_length, split_long

WIDEST = 4096
"""Columns that one program takes whole."""

SLICE = 1024
"""Columns of a program where the row is wider."""

OPTIONS = UNFUSED | {"maxnreg": 128}
"""Said a limit, the assembler issues all loads of a step before it waits for one; left alone it
saves registers instead. At 128 a multiprocessor holds two programs of eight warps."""


@triton.jit
def total_in_order(x, U: tl.constexpr):
    """The sum of U numbers from first to last, however they lie in the threads."""
    total = 0.0
    for i in tl.static_range(U):
        total += tl.sum(tl.where(tl.arange(0, U) == i, x, 0.0), axis=0)
    return total


@triton.jit
def load_float(address, mask):
    """Numbers as float32, 0 where the mask is off."""
    return tl.load(address, mask=mask, other=0).to(tl.float32)


@triton.jit
def put(total, out, at, part, part_at, inside, cut):
    """Store what a unit sums to in its place, or what a piece of it does in the workspace."""
    tl.store(part + part_at, total, mask=inside & cut)
    tl.store(out + at, total, mask=inside & (cut == 0))


@triton.jit
def features_kernel(
    offsets, slots, units, first, values, given, dy, x, w_dec,
    d_w_dec, d_w_enc, d_b_enc, d_values, part_dec, part_enc, part_b,
    pieces, length, width, K,
    D: tl.constexpr, BLOCK: tl.constexpr, U: tl.constexpr,
    DOTS: tl.constexpr, DECODER: tl.constexpr, ENCODER: tl.constexpr,
):  # fmt: skip
    """The slots of one unit, or one piece of them; DOTS computes g, otherwise it is given."""
    unit, begin, end, works, cut = piece(offsets, units, first, pieces, length, width)
    if not works:
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < D
    if DOTS:
        w = load_float(w_dec + unit.to(tl.int64) * D + column, inside)
    sum_dec = tl.zeros([BLOCK], tl.float32)
    sum_enc = tl.zeros([BLOCK], tl.float32)
    sum_b = tl.zeros([U], tl.float32)
    for start in range(begin, end, U):
        place = start + tl.arange(0, U)
        live = place < end
        slot = tl.load(slots + place, mask=live, other=0)
        token = slot.to(tl.uint32) // tl.cast(K, tl.uint32)
        address = token.to(tl.int64)[:, None] * D + column[None, :]
        wanted = live[:, None] & inside[None, :]
        if DECODER:
            from_dy = load_float(dy + address, wanted)
        if ENCODER:
            from_x = load_float(x + address, wanted)
        if DECODER:
            sum_dec += tl.sum(load_float(values + slot, live)[:, None] * from_dy, axis=0)
        if DOTS:
            g = tl.sum(from_dy * w[None, :], axis=1).to(d_values.dtype.element_ty)
            tl.store(d_values + slot, g, mask=live)
            g = g.to(tl.float32)
        elif ENCODER:
            g = load_float(given + slot, live)
        if ENCODER:
            sum_enc += tl.sum(g[:, None] * from_x, axis=0)
            sum_b += g
    at = unit.to(tl.int64) * D + column
    part_at = tl.program_id(0).to(tl.int64) * D + column
    if DECODER:
        put(sum_dec, d_w_dec, at, part_dec, part_at, inside, cut)
    if ENCODER:
        put(sum_enc, d_w_enc, at, part_enc, part_at, inside, cut)
        bias = total_in_order(sum_b, U)
        put(bias, d_b_enc, unit, part_b, tl.program_id(0), tl.program_id(1) == 0, cut)


class Tiling(NamedTuple):
    """Columns of a program, rows in flight of each operand, and warps."""

    block: int
    u: int
    warps: int


def tiling(d: int, itemsize: int) -> Tiling:
    """Four 16-byte loads of each operand in flight per thread, in eight warps or fewer."""
    block = triton.next_power_of_2(d) if d <= WIDEST else SLICE
    loads = max(block * itemsize // 512, 1)  # of a warp, for one row
    warps = min(loads, 8)
    return Tiling(block, max(4 * warps // loads, 1), warps)


def bwd_features(
    offsets: Tensor,
    slots: Tensor,
    values: Tensor | None = None,
    grad_values: Tensor | None = None,
    dy: Tensor | None = None,
    x: Tensor | None = None,
    w_dec: Tensor | None = None,
    *,
    length: int | None = None,
) -> FeatureGradients:
    """Gradients of a layer's weights; the slots come sorted by unit, from `csc_build`.

    The decoder half takes values (rows k), dy (rows d) and w_dec (width d); the encoder half x
    (rows d) and grad_values (rows k), or those that the decoder half finds. Units of more than
    `length` slots are cut. Sums in float32; weights that no slot names get zeros.
    """
    width, k = len(offsets) - 1, _first(values, grad_values).shape[1]
    d = _first(dy, x).shape[1]
    d_values = found = None
    if dy is not None and d > WIDEST:
        grad_values = d_values = sddmm(dy, w_dec, unit_of_slots(offsets, slots, values))
    elif dy is not None:
        d_values = found = values.new_zeros(values.shape)
    d_w_dec = None if dy is None else w_dec.new_empty(width, d)
    d_w_enc, d_b_enc = (None, None) if x is None else (x.new_empty(width, d), x.new_empty(width))
    operands = values, grad_values, dy, x, w_dec
    reads = [None if t is None else t.contiguous() for t in operands]
    _launch(offsets, slots, reads, (d_w_dec, d_w_enc, d_b_enc), found, k, length)
    return FeatureGradients(d_w_dec, d_w_enc, d_b_enc, d_values)


def _first(*tensors: Tensor | None) -> Tensor:
    return next(tensor for tensor in tensors if tensor is not None)


def _launch(
    offsets: Tensor,
    slots: Tensor,
    reads: list[Tensor | None],
    writes: tuple[Tensor | None, Tensor | None, Tensor | None],
    found: Tensor | None,
    k: int,
    length: int | None,
) -> None:
    """The pass and, for units that were cut, the sum of their pieces."""
    out = _first(*writes)
    d = out.shape[1]
    split = split_long(offsets, len(slots), length or split_length(len(slots)))
    pieces, width = len(split.unit), len(split.first)
    parts = [
        None if t is None else t.new_empty(pieces, *t.shape[1:], dtype=torch.float32)
        for t in writes
    ]
    tile = tiling(d, out.element_size())
    features_kernel[pieces + width, triton.cdiv(d, tile.block)](
        offsets,
        slots,
        split.unit,
        split.first,
        *reads,
        *writes,
        found,
        *parts,
        pieces,
        split.length,
        width,
        k,
        d,
        tile.block,
        tile.u,
        found is not None,
        writes[0] is not None,
        writes[1] is not None,
        **{"num_warps": tile.warps} | OPTIONS,
    )
    for part, whole in zip(parts, writes):
        if part is not None and whole is not None:
            join(part, whole, offsets, split)


def _entry(d: int, dtype: str, half: str, ragged: bool = False) -> Shipped:
    decoder, encoder = half != "encoder", half != "decoder"
    dots = decoder and d <= WIDEST
    pointer, tile = f"*{dtype}", tiling(d, 4 if dtype == "fp32" else 2)

    def where(used: bool, kind: str = pointer) -> str | None:
        return kind if used else None

    return Shipped(
        f"features {dtype} d={d} {half}" + " ragged" * ragged,
        features_kernel,
        dict.fromkeys(("offsets", "slots", "units", "first"), "*i32")
        | {"values": where(decoder), "given": where(encoder and not dots)}
        | {"dy": where(decoder), "x": where(encoder), "w_dec": where(decoder)}
        | {"d_w_dec": where(decoder), "d_w_enc": where(encoder), "d_b_enc": where(encoder)}
        | {"d_values": where(dots), "part_dec": where(decoder, "*fp32")}
        | {"part_enc": where(encoder, "*fp32"), "part_b": where(encoder, "*fp32")}
        | {"pieces": "i32", "length": "i32", "width": "i32", "K": "i32"}
        | {"D": d, "BLOCK": tile.block, "U": tile.u}
        | {"DOTS": dots, "DECODER": decoder, "ENCODER": encoder},
        warps=tile.warps,
        aligned=() if ragged else ("length", "width", "K"),
        gathers=True,
        options=OPTIONS,
    )


SHIPPED = [
    _entry(d, dtype, half)
    for d in (512, 1024, 2048, 4096, 8192)
    for dtype, halves in (("bf16", ("both", "decoder", "encoder")), ("fp32", ("both",)))
    for half in halves
] + [_entry(2048, "bf16", "both", ragged=True)]
