"""The slots in use of a table of indices, as the lists that CSR matrices are made of."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Slots(NamedTuple):
    """The slots in use, row by row, as in a CSR matrix of rows by units."""

    offsets: Tensor  # (rows + 1)
    unit: Tensor  # (used)
    used: Tensor | None  # (used) positions in the table (rows k); None where every slot is

    def take(self, slot_values: Tensor) -> Tensor:
        """(rows k) -> (used)"""
        flat = slot_values.flatten()
        return flat if self.used is None else flat.index_select(0, self.used)


class ByUnit(NamedTuple):
    """The same slots sorted by unit, and by row within a unit: CSR of units by rows."""

    offsets: Tensor  # (width + 1)
    row: Tensor  # (used)
    order: Tensor  # (used) positions in the row-by-row list
    slots: Slots

    def take(self, slot_values: Tensor) -> Tensor:
        """(rows k) -> (used)"""
        return self.slots.take(slot_values).index_select(0, self.order)


def slots_in_use(indices: Tensor) -> Slots:
    """Those of indices (rows k) that are not -1; ValueError for more than 2**31 - 1 in all."""
    rows, k = indices.shape
    if rows * k >= 2**31:
        raise ValueError(
            f"{rows} rows of {k} slots are more than 2**31 - 1: use fewer rows at once"
        )
    in_use = indices >= 0
    if bool(in_use.all()):
        offsets = torch.arange(rows + 1, dtype=torch.int32) * k
        return Slots(offsets, indices.flatten(), None)
    # Positions, because a mask is searched anew by every operation that is indexed with it.
    used = in_use.flatten().nonzero()[:, 0]
    unit = indices.flatten().index_select(0, used)
    return Slots(_running_total(in_use.sum(dim=-1)), unit, used)


def sorted_by_unit(slots: Slots, width: int) -> ByUnit:
    """The slots of each of `width` units, in the order of rows."""
    # A stable sort of integers is a radix sort, and keeps the rows of a unit in order.
    order = slots.unit.argsort(stable=True)
    offsets = _running_total(torch.bincount(slots.unit, minlength=width))
    rows = torch.arange(len(slots.offsets) - 1, dtype=torch.int32)
    row = rows.repeat_interleave(slots.offsets.diff(), output_size=len(order))
    return ByUnit(offsets, row.index_select(0, order), order, slots)


def _running_total(counts: Tensor) -> Tensor:
    return F.pad(counts.cumsum(dim=0, dtype=torch.int32), (1, 0))
