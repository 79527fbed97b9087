"""From chosen columns to the units they stand for."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.gpu.shipped import Shipped

BLOCK = 1024
"""Slots of one program."""


@triton.jit
def units_kernel(label_ptr, chosen_ptr, out_ptr, slots, k, columns, group, BLOCK: tl.constexpr):
    """BLOCK of all slots, row after row."""
    slot = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    chosen = tl.load(chosen_ptr + slot, mask=slot < slots, other=-1)
    at = slot // k * columns + chosen
    label = tl.load(label_ptr + at, mask=chosen >= 0, other=0).to(tl.int32)
    unit = tl.where(chosen >= 0, chosen * group + label, -1)
    tl.store(out_ptr + slot, unit, mask=slot < slots)


def units_of(labels: Tensor, chosen: Tensor, group: int) -> Tensor:
    """Column times `group` plus its label, int32 (rows k); -1 where `chosen` is.

    labels (rows columns) int8 or int32, chosen (rows k) int32.
    """
    units = torch.empty_like(chosen)
    slots, k = chosen.numel(), chosen.shape[1]
    if slots:
        units_kernel[(triton.cdiv(slots, BLOCK),)](
            labels, chosen, units, slots, k, labels.shape[1], group, BLOCK
        )
    return units


def _shipped(label: str) -> Shipped:
    signature = {"label_ptr": label, "chosen_ptr": "*i32", "out_ptr": "*i32", "slots": "i32"}
    signature |= {"k": "i32", "columns": "i32", "group": "i32", "BLOCK": BLOCK}
    return Shipped(f"units {label}", units_kernel, signature, registers=64)


SHIPPED = [_shipped("*i8"), _shipped("*i32")]
