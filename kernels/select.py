"""Exact row-wise top-k by group-max pruning, on any device, with library calls alone.

Of a row that is cut into groups of neighbours, the k largest entries lie in k groups with the
largest maxima. So those groups are chosen first, by the same rule, and then from their entries:
every level has rows of one length, whatever the keys, and rows that are short are sorted.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

try:
    import numpy as np
except ImportError:  # torch does without, and so do the kernels
    np = None

SHORT = 256
"""Columns, or SLOTS per entry to be taken, of the rows that no level makes shorter."""

SLOTS = 4

POOLED = 16
"""Groups up to this size are faster pooled than reduced, on a CPU."""


def top_indices(keys: Tensor, k: int) -> Tensor:
    """Columns (rows k), int64 and ascending, of the k largest keys (rows width) of each row.

    NaN ranks above every number, and among equals the lowest column wins.
    """
    rows, width = keys.shape
    if k == width:
        return torch.arange(width, device=keys.device).expand(rows, width)
    return _places(keys, k) - _rows(keys) * width


def not_top(keys: Tensor, k: int) -> Tensor:
    """Where keys (rows width) are none of the k largest of their row, by the rule of `top_indices`."""
    rows, width = keys.shape
    if k == width:
        return torch.zeros_like(keys, dtype=torch.bool)
    if not _is_short(width, k):
        chosen = torch.ones_like(keys, dtype=torch.bool).flatten()
        return chosen.index_fill_(0, _places(keys, k).flatten(), False).view(rows, width)
    below, floor = _below(keys, k)
    # No row has fewer than k that reach its k-th largest key: as many in all are as many in each.
    exact = int(below.count_nonzero()) == (width - k) * rows
    return below if exact else ~_resolve(keys, floor, k)


def group_maxima(keys: Tensor, group: int) -> Tensor:
    """The largest key of each group of neighbours: (rows width) -> (rows groups).

    NaN is the largest of all. The last group may be smaller.
    """
    if len(keys) == 0:  # no call pools or reduces nothing
        return keys.new_empty(0, -(-keys.shape[1] // group))
    if keys.is_floating_point() and (group <= POOLED or keys.shape[1] % group):
        return F.max_pool1d(keys, group, ceil_mode=True)
    if gap := -keys.shape[1] % group:
        keys = F.pad(keys, (0, gap), value=_least(keys))
    return keys.unflatten(1, (-1, group)).amax(dim=2)


def _group_bits(width: int, k: int) -> int:
    """Logarithm of the columns per group, with which k groups have about as many entries as there
    are groups; some more, as maxima of long groups are found sooner."""
    return int(math.log2(2 * math.sqrt(width / k)))


def _is_short(width: int, k: int) -> bool:
    return width <= max(SHORT, SLOTS * k)


def _least(keys: Tensor) -> float | int:
    return -torch.inf if keys.is_floating_point() else torch.iinfo(keys.dtype).min


def _rows(table: Tensor) -> Tensor:
    """The number of each row of a table: (rows 1)."""
    return torch.arange(len(table), device=table.device)[:, None]


def _places(keys: Tensor, k: int) -> Tensor:
    """Positions row * width + column (rows k) of what `top_indices` takes."""
    rows, width = keys.shape
    if _is_short(width, k):
        return _sorted_out(keys, k)
    bits = _group_bits(width, k)
    group = 2**bits
    gap = -width % group
    whole = F.pad(keys, (0, gap), value=_least(keys)) if gap else keys
    # Of groups with equal maxima the lowest are taken, which hold the lowest of the equal entries.
    line = _places(group_maxima(whole, group), k).flatten()
    held = whole.reshape(-1, group).index_select(0, line).view(rows, k * group)
    slot = _places(held, k)
    chosen = (line.take(slot >> bits) << bits) + (slot & (group - 1))
    return chosen - _rows(keys) * gap if gap else chosen


def _sorted_out(keys: Tensor, k: int) -> Tensor:
    """`_places` by the k-th largest key of each row and what reaches it."""
    below, floor = _below(keys, k)
    reaching = _where(~below)
    if len(reaching) != k * len(keys):
        reaching = _where(_resolve(keys, floor, k))
    return reaching.view(-1, k)


def _below(keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Where keys (rows width) are less than the k-th largest of their row, and that key (rows 1).

    NaN is above every number; where the key is NaN none is below it.
    """
    if np is None or keys.device.type != "cpu" or keys.dtype == torch.bfloat16:
        floor = keys.topk(k, dim=-1).values[:, -1:]  # in order: a minimum would be any NaN
        return keys < floor, floor
    # Sorting whole short rows with numpy's vector code takes a fifth of torch's selection.
    table = keys.detach().numpy()
    floor = np.sort(table, axis=1)[:, -k, None]
    return torch.from_numpy(table < floor), torch.from_numpy(floor)


def _where(chosen: Tensor) -> Tensor:
    """Positions row * width + column, ascending, of what is chosen (rows width)."""
    if np is None or chosen.device.type != "cpu":
        return chosen.flatten().nonzero()[:, 0]
    return torch.from_numpy(np.flatnonzero(chosen.numpy()))


def _resolve(keys: Tensor, floor: Tensor, k: int) -> Tensor:
    """The chosen of keys (rows width), given the k-th largest of each row, with ties or NaN."""
    nan = keys.isnan()
    above = (keys > floor) | (nan & ~floor.isnan())
    equal = (keys == floor) | (nan & floor.isnan())
    room = k - above.sum(dim=-1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=-1, dtype=torch.int32) <= room))
