"""The encoder that looks for units in a product of 8-bit floats, and computes those it finds again.

The product runs at about twice the rate of one in half precision; only `candidate_count` of its
entries in a row are computed as `exact` computes them, and the k largest of these taken.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.kernels.gpu.quantise import quantise
from pellucid.kernels.gpu.rows import topk_rows
from pellucid.kernels.gpu.sddmm import SHIPPED as PRODUCTS
from pellucid.kernels.gpu.sddmm import sddmm
from pellucid.kernels.gpu.units import units_of
from pellucid.kernels.modes import candidate_count

BUFFER_BYTES = 2**30
"""Scores held at a time, as in the exact encoder."""

MIN_CHUNK_ROWS = 1024
"""Below this the product has too few tiles for the device."""

OLDEST = (8, 9)
"""The first compute capability that multiplies 8-bit floats."""


def encode_fp8(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool
) -> tuple[Tensor, Tensor]:
    """`encode_topk` in mode `fp8`: x (rows d), w_enc (width d), b_enc (width).

    ValueError on a device that has no products of 8-bit floats.
    """
    check_device(x.device)
    values, indices = x.new_empty(len(x), k), x.new_empty(len(x), k, dtype=torch.int32)
    candidates = candidate_count(len(w_enc), k)
    for part, scores in _scores(x, w_enc, b_enc):
        columns = topk_rows(scores, candidates, signed)[1]
        # In float32 until the end, as in a product whose bias is added before it is rounded.
        pre = sddmm(x[part].float(), w_enc, columns) + b_enc.float()[columns.long()]
        values[part], slots = topk_rows(pre, k, signed, drop=True)
        indices[part] = units_of(columns, slots, 0)
    return values, indices


def check_device(device: torch.device) -> None:
    """ValueError unless products of 8-bit floats run there."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < OLDEST:
        found = ".".join(map(str, torch.cuda.get_device_capability(device)))
        raise ValueError(
            f"mode fp8 needs a GPU of compute capability 8.9 or newer, {device} has {found}; "
            f"exact and groupmax are accepted there"
        )


def _scores(x: Tensor, w_enc: Tensor, b_enc: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of rows and their pre-activations from the 8-bit product, in bfloat16.

    Units of weight and bias 0 fill the width up to a multiple of 16, which the product asks for.
    """
    width, missing = len(w_enc), -len(w_enc) % 16
    weight, weight_scale = quantise(F.pad(w_enc, (0, 0, 0, missing)) if missing else w_enc)
    bias = F.pad(b_enc, (0, missing)).bfloat16()
    size = max(BUFFER_BYTES // (2 * len(weight)), MIN_CHUNK_ROWS)
    for start in range(0, len(x), size):
        part = slice(start, min(start + size, len(x)))
        rows, scale = quantise(x[part])
        scores = torch._scaled_mm(
            rows,
            weight.T,
            scale_a=scale,
            scale_b=weight_scale.T,
            bias=bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        yield part, scores[:, :width]


# What the other parts of this encoder do not list: products of float32 rows with half-precision units.
SHIPPED = [
    replace(
        entry,
        name=f"refine {entry.name}",
        signature={**entry.signature, "x": "*fp32", "out": "*fp32"},
    )
    for entry in PRODUCTS
    if entry.signature["weight"] == "*bf16"
]
