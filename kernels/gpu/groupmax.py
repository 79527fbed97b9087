"""The encoder that keeps the largest pre-activation of each group of units, and nothing else.

A matrix product whose tiles end in a reduction: of rows x width pre-activations only the largest of
each group and its place are written. Then k of the groups are chosen, and the slots put in order.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from pellucid.kernels.gpu.rows import topk_rows
from pellucid.kernels.gpu.shipped import Shipped
from pellucid.kernels.gpu.units import units_of
from pellucid.kernels.modes import group_size


@triton.jit
def group_maxima_kernel(
    x_tiles,
    w_tiles,
    bias_ptr,
    value_ptr,
    place_ptr,
    rows,
    width,
    d,
    groups,
    SIGNED: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
    BAND: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """One tile of (ROWS, UNITS) pre-activations: writes UNITS / GROUP maxima and places a row."""
    row_tile, unit_tile = banded(tl.program_id(0), rows, width, ROWS, UNITS, BAND)
    first_row, first_unit = row_tile * ROWS, unit_tile * UNITS
    total = tl.zeros([ROWS, UNITS], tl.float32)
    for start in tl.range(0, d, DEPTH):
        x = load_tile(x_tiles, first_row, start, rows, d, ROWS, DEPTH, DESCRIBED)
        w = load_tile(w_tiles, first_unit, start, width, d, UNITS, DEPTH, DESCRIBED)
        total = tl.dot(x, w.T, total, input_precision="ieee")
    unit = first_unit + tl.arange(0, UNITS)
    bias = tl.load(bias_ptr + unit, mask=unit < width, other=0.0).to(tl.float32)
    pre = (total + bias[None, :]).to(value_ptr.dtype.element_ty)
    value, place = largest(pre, (unit < width)[None, :], SIGNED, GROUP)
    row = tl.arange(0, ROWS)
    group = unit_tile * (UNITS // GROUP) + tl.arange(0, UNITS // GROUP)
    base = first_row.to(tl.int64) * groups
    at = row[:, None] * groups + group[None, :]
    inside = (row < rows - first_row)[:, None] & (group < groups)[None, :]
    tl.store(value_ptr + base + at, value, mask=inside)
    tl.store(place_ptr + base + at, place, mask=inside)


@triton.jit
def load_tile(
    source, first, start, limit, d, SIZE: tl.constexpr, DEPTH: tl.constexpr, DESCRIBED: tl.constexpr
):
    """Rows from `first` and columns from `start` of a matrix (limit d), 0 beyond its edges.

    By a descriptor where the hardware has them; by pointers elsewhere, for only such loads overlap
    with the product there.
    """
    if DESCRIBED:
        part = source.load([first, start])
    else:
        row, column = first + tl.arange(0, SIZE), start + tl.arange(0, DEPTH)
        inside = (row < limit)[:, None] & (column < d)[None, :]
        at = row.to(tl.int64)[:, None] * d + column[None, :]
        part = tl.load(source + at, mask=inside, other=0.0)
    return part


@triton.jit
def banded(program, rows, width, ROWS: tl.constexpr, UNITS: tl.constexpr, BAND: tl.constexpr):
    """Row and unit tile of a program: bands of BAND row tiles go through all units together, so
    that what they read stays in the L2 cache."""
    row_tiles, unit_tiles = tl.cdiv(rows, ROWS), tl.cdiv(width, UNITS)
    first = program // (BAND * unit_tiles) * BAND
    height = tl.minimum(row_tiles - first, BAND)
    within = program % (BAND * unit_tiles)
    return first + within % height, within // height


@triton.jit
def largest(pre, inside, SIGNED: tl.constexpr, GROUP: tl.constexpr):
    """The largest of each group, after a ReLU or by magnitude, as value and place in the group.

    Values of one sign are ordered as their bits are as integers. 16-bit values leave room for the
    place below them, so that one maximum finds both; NaN becomes the largest of integers.
    """
    ROWS: tl.constexpr = pre.shape[0]
    GROUPS: tl.constexpr = pre.shape[1] // GROUP
    HALF: tl.constexpr = pre.dtype.primitive_bitwidth == 16
    WORD: tl.constexpr = tl.int16 if HALF else tl.int32
    MOST: tl.constexpr = 0x7FFF if HALF else 0x7FFFFFFF
    TOP: tl.constexpr = 15 if HALF else 31
    bits = pre.to(WORD, bitcast=True).to(tl.int32)
    key = bits & MOST
    negative = (bits >> TOP) & 1
    if not SIGNED:
        key = tl.where(negative == 1, 0, key)
    number = pre.to(tl.float32)
    key = tl.where(number == number, key, MOST)
    # Lower bits: the sign last, above it the distance to the group's end, the first being farthest.
    place = tl.arange(0, pre.shape[1]) % GROUP
    rest = ((GROUP - 1 - place) * 2)[None, :] + negative
    if HALF:
        packed = tl.where(inside, (key << 16) | rest, -1)
        packed = tl.max(tl.reshape(packed, [ROWS, GROUPS, GROUP]), axis=2)
        best, rest = packed >> 16, packed & 0xFFFF
    else:
        key = tl.reshape(tl.where(inside, key, -1), [ROWS, GROUPS, GROUP])
        best = tl.max(key, axis=2)
        rest = tl.reshape(rest, [ROWS, GROUPS, GROUP])
        rest = tl.max(tl.where(key == best[:, :, None], rest, -1), axis=2)
    bits = best | ((rest & 1) << TOP) if SIGNED else best
    value = bits.to(WORD).to(pre.dtype, bitcast=True)
    return value, (GROUP - 1 - (rest >> 1)).to(tl.int8)


class Tile(NamedTuple):
    """Rows, units and depth of a program's tile, and how it is run."""

    rows: int
    units: int
    depth: int
    warps: int
    stages: int

    def launch(self) -> dict[str, int]:
        """The options of a launch."""
        return {"num_warps": self.warps, "num_stages": self.stages}


BAND = 16
"""Row tiles that go through the units together."""

DESCRIBED_FROM = 90
"""The first architecture that loads tiles by descriptor."""

KEPT_BYTES = 2**28
"""Maxima and places held at a time; more rows than that takes are done in parts."""


def tile_of(dtype: torch.dtype, d: int, group: int, arch: int) -> Tile:
    """The tile for a dtype, depth and group on an architecture (80, 90, 100)."""
    if dtype == torch.float32:  # no matrix instruction multiplies these: the sums fill registers
        return Tile(64, 64, 32, 8, 2)
    if arch == 80 or group < 4:  # small groups leave half a tile to write, by more threads
        return Tile(128, 128, 64, 8, 3)
    if d >= 1024:  # the longer the product, the less its end weighs
        return Tile(128, 256, 64, 8, 3)
    return Tile(128, 128, 64, 4, 3)  # two programs at once: one multiplies while the other ends


def encode_groupmax(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool
) -> tuple[Tensor, Tensor]:
    """`encode_topk` in mode `groupmax`: x (rows d), w_enc (width d), b_enc (width)."""
    group = group_size(len(w_enc), k)
    values, indices = x.new_empty(len(x), k), x.new_empty(len(x), k, dtype=torch.int32)
    size = max(KEPT_BYTES // (-(-len(w_enc) // group) * (x.element_size() + 1)), 128)
    weight = whole_words(w_enc)
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        value, place = group_maxima(whole_words(x[part]), weight, b_enc, group, signed)
        values[part], chosen = topk_rows(value, k, signed, drop=True)
        indices[part] = units_of(place, chosen, group)
    return values, indices


def group_maxima(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, group: int, signed: bool
) -> tuple[Tensor, Tensor]:
    """The largest of each group of units, and its place there as int8: (rows groups) both.

    x (rows d) and w_enc (width d) as `whole_words` gives them. Largest after a ReLU, or by
    magnitude if `signed` and then with its sign. NaN is largest, the first wins among equals.
    """
    (rows, d), width, groups = x.shape, len(w_enc), -(-len(w_enc) // group)
    value, place = x.new_empty(rows, groups), x.new_empty(rows, groups, dtype=torch.int8)
    if not rows:
        return value, place
    arch = architecture(x.device)
    tile = tile_of(x.dtype, d, group, arch)
    x_tiles, w_tiles = x, w_enc
    if arch >= DESCRIBED_FROM:
        x_tiles = TensorDescriptor.from_tensor(x, [tile.rows, tile.depth])
        w_tiles = TensorDescriptor.from_tensor(w_enc, [tile.units, tile.depth])
    group_maxima_kernel[(triton.cdiv(rows, tile.rows) * triton.cdiv(width, tile.units),)](
        x_tiles,
        w_tiles,
        b_enc.contiguous(),
        value,
        place,
        rows,
        width,
        d,
        groups,
        *(signed, group, tile.rows, tile.units, tile.depth, BAND, arch >= DESCRIBED_FROM),
        **tile.launch(),
    )
    return value, place


def whole_words(x: Tensor) -> Tensor:
    """The tensor (rows d) as tile loads want it: rows of whole 16-byte words, at a whole word."""
    missing = -x.shape[1] % (16 // x.element_size())
    x = F.pad(x, (0, missing)) if missing else x.contiguous()
    return x.clone() if x.data_ptr() % 16 else x


def architecture(device: torch.device) -> int:
    """80, 90 or 100: whose tiles a CUDA device runs; 90 for the interpreter.

    Devices of 8.x and 12.x have less shared memory and neither of the newer matrix instructions.
    """
    if device.type != "cuda":
        return 90
    major = torch.cuda.get_device_capability(device)[0]
    return {9: 90, 10: 100}.get(major, 80)


def _shipped(kind: str, d: int, group: int, arch: int, signed: bool) -> Shipped:
    """One configuration as `group_maxima` launches it."""
    tile = tile_of(torch.float32 if kind == "fp32" else torch.bfloat16, d, group, arch)
    described = arch >= DESCRIBED_FROM
    loaded = [
        f"tensordesc<{kind}[{size},{tile.depth}]>" if described else f"*{kind}"
        for size in (tile.rows, tile.units)
    ]
    signature = dict(zip(("x_tiles", "w_tiles"), loaded, strict=True))
    signature |= {"bias_ptr": f"*{kind}", "value_ptr": f"*{kind}", "place_ptr": "*i8"}
    signature |= dict.fromkeys(("rows", "width", "d", "groups"), "i32")
    signature |= {"SIGNED": signed, "GROUP": group, "ROWS": tile.rows, "UNITS": tile.units}
    signature |= {"DEPTH": tile.depth, "BAND": BAND, "DESCRIBED": described}
    return Shipped(
        f"groupmax {kind} d={d} group={group}{' signed' * signed}",
        group_maxima_kernel,
        signature,
        warps=tile.warps,
        stages=tile.stages,
        aligned=("d",),
        registers=255,  # a tile of sums fills them, as in any matrix product
        multiplies=kind != "fp32",
        arch=arch,
    )


SHIPPED = [
    _shipped(kind, d, group, arch, signed)
    for arch in (80, 90, 100)
    for kind, d, group, signed in (
        ("bf16", 512, 32, False),
        ("bf16", 512, 32, True),
        ("bf16", 512, 8, False),
        ("bf16", 2048, 32, False),
        ("bf16", 2048, 32, True),
        ("bf16", 2048, 16, False),
        ("bf16", 2048, 8, False),
        ("bf16", 2048, 4, False),
        ("bf16", 2048, 2, True),
        ("fp32", 2048, 32, False),
        ("fp32", 2048, 2, True),
    )
]
