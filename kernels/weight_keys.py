"""Magnitudes of weights as integers that order alike, and the entries that a line may not lose.

A float's bits without its sign are an integer that grows with the magnitude: equal keys are equal
magnitudes, -0 is 0, and all NaN get one key above infinity. A guarded entry has a key above that.
"""

import torch
from torch import Tensor

from pellucid.kernels.select import top_indices

INTEGERS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
"""The integer type of a float's bits; without the sign bit, a key."""


def key_bits(dtype: torch.dtype) -> int:
    """Bits of a key of this float type: 15, 31 or 63."""
    return 8 * dtype.itemsize - 1


def highest(dtype: torch.dtype) -> int:
    """The key of guarded entries, which no float has."""
    return (1 << key_bits(dtype)) - 1


def nan_key(dtype: torch.dtype) -> int:
    """The key of every NaN: infinity's, and one."""
    return int(torch.tensor(float("inf"), dtype=dtype).view(INTEGERS[dtype])) + 1


def keys(weight: Tensor) -> Tensor:
    """Integers of the shape of a float tensor, ordered as the magnitudes are."""
    bits = weight.view(INTEGERS[weight.dtype]) & highest(weight.dtype)
    return bits.clamp_(max=nan_key(weight.dtype))


def largest(lines: Tensor, j: int) -> tuple[Tensor, Tensor]:
    """The j largest keys of each line (lines length) and their places (lines j), ascending.

    Among equals the lowest place is taken. Where a line is shorter than j, all of it.
    """
    j = min(j, lines.shape[1])
    if lines.numel() == 0:
        return lines[:, :j], lines[:, :j].long()
    places = top_indices(lines, j)
    return lines.gather(1, places), places


def bounds(found: Tensor, places: Tensor) -> Tensor:
    """What the entries (lines j) that a line keeps come to: int64 (lines 2), lowest key and last place.

    An entry is kept if its key is above the lowest, or equal to it and not behind the last place.
    """
    lowest = found.amin(dim=1, keepdim=True)
    last = places.where(found == lowest, -1).amax(dim=1)
    return torch.stack((lowest[:, 0].long(), last), dim=1)


def guard_(keys: Tensor, rows: Tensor | None, columns: Tensor | None, first_row: int = 0) -> None:
    """Raise to the highest integer the keys (rows columns) within the bounds of their row or column.

    `rows` (rows 2) and `columns` (columns 2) are `bounds`; a column counts rows from `first_row` on.
    """
    guarded = torch.zeros_like(keys, dtype=torch.bool)
    if rows is not None:
        column = torch.arange(keys.shape[1], device=keys.device)
        guarded |= _within(keys, rows[:, None], column)
    if columns is not None:
        row = torch.arange(first_row, first_row + len(keys), device=keys.device)
        guarded |= _within(keys, columns, row[:, None])
    keys.masked_fill_(guarded, torch.iinfo(keys.dtype).max)


def _within(keys: Tensor, bounds: Tensor, place: Tensor) -> Tensor:
    lowest, last = bounds[..., 0].to(keys.dtype), bounds[..., 1]
    return (keys > lowest) | ((keys == lowest) & (place <= last))
