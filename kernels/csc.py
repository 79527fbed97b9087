"""Slots sorted by unit: the order in which the gradients of a layer's weights are summed.

Nothing here reads a tensor back to the host: every size follows from the shapes, so that a GPU
runs ahead undisturbed and a graph can be captured.
"""

from typing import NamedTuple

import torch
from torch import Tensor

MOST_SLOTS = 2**31 - 2**20
"""Positions are int32, and programs step over the end of a list by less than the difference."""


class Csc(NamedTuple):
    """The slots (rows k) of a layer by unit, and by row within a unit; all int32."""

    offsets: Tensor
    """(width + 1) where each unit's slots begin in `slots`; the last is the number in use."""

    slots: Tensor
    """(rows * k) positions row * k + slot; those of no unit (index -1) come last."""

    counts: Tensor
    """(width) slots of each unit: how often it fired."""


class FeatureGradients(NamedTuple):
    """What one pass over the slots by unit gives; None for what was not asked for."""

    d_w_dec: Tensor | None
    """(width d)"""

    d_w_enc: Tensor | None
    """(width d)"""

    d_b_enc: Tensor | None
    """(width)"""

    d_values: Tensor | None
    """(rows k), 0 in slots of no unit"""


def sort_by_unit(indices: Tensor, width: int) -> Csc:
    """Sort int32 indices (rows k) by unit, stably; indices outside 0..width - 1 are left out.

    ValueError for more than MOST_SLOTS slots.
    """
    if indices.numel() > MOST_SLOTS:
        raise ValueError(
            f"{indices.numel()} slots are more than {MOST_SLOTS}: use fewer rows at once"
        )
    flat = indices.flatten()
    unit = flat.where((flat >= 0) & (flat < width), width)
    low, key_type = _key_type(width)
    keys, slots = (unit + low).to(key_type).sort(stable=True)
    bounds = torch.arange(low, low + width + 1, device=flat.device, dtype=key_type)
    offsets = torch.searchsorted(keys, bounds, out_int32=True)
    return Csc(offsets, slots.int(), offsets.diff())


def unit_of_slots(offsets: Tensor, slots: Tensor, like: Tensor) -> Tensor:
    """The int32 indices (rows k, as `like`) that a list by unit came from, -1 for slots of none."""
    place = torch.arange(len(slots), device=slots.device, dtype=torch.int32)
    unit = torch.searchsorted(offsets[1:], place, right=True, out_int32=True)
    unit = unit.where(unit < len(offsets) - 1, -1)
    return torch.empty_like(unit).scatter_(0, slots.long(), unit).view(like.shape)


def _key_type(width: int) -> tuple[int, torch.dtype]:
    """The shortest type of keys 0..width, which a radix sort reads in fewer passes, and its zero."""
    return (-(2**15), torch.int16) if width < 2**16 else (0, torch.int32)
