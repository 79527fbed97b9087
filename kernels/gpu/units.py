"""From chosen columns to the units they stand for, and the selection that near modes end with."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.kernels.cpu import drop_inactive
from pellucid.kernels.gpu.shipped import Shipped
from pellucid.kernels.select import top_indices

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


def top_columns(keys: Tensor, k: int, signed: bool, *, drop: bool) -> tuple[Tensor, Tensor]:
    """The k largest of each row (by magnitude if `signed`): values and int32 columns, ascending.

    With `drop`, slots that are not positive (if `signed`: that are 0) come last: value 0, column -1.
    """
    chosen = top_indices(keys.abs() if signed else keys, k)
    values = keys.gather(1, chosen)
    if not drop:
        return values, chosen.int()
    return drop_inactive(values if signed else values.relu(), chosen.int())


def _shipped(label: str) -> Shipped:
    signature = {"label_ptr": label, "chosen_ptr": "*i32", "out_ptr": "*i32", "slots": "i32"}
    signature |= {"k": "i32", "columns": "i32", "group": "i32", "BLOCK": BLOCK}
    return Shipped(f"units {label}", units_kernel, signature, registers=64)


SHIPPED = [_shipped("*i8"), _shipped("*i32")]
