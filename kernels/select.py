"""Exact row-wise top-k by group-max pruning, on any device, with library calls alone.

If a row is cut into groups, at least k of its entries reach the k-th largest of the groups' maxima,
and few more do. So that floor is found first, then what reaches it, by way of the lines (groups of
neighbours) that hold any of it, and the selection is made from that alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LINES = (32, 16)
"""Columns per line, in order of preference: the larger, the sooner its maxima are found."""

FINE = 4
"""Lines per slot that a line must leave: with fewer, a row's chosen lines hold most of the row."""

COARSE = 2
"""Groups per slot for the floor: fewer are found sooner, but more entries reach their floor."""

CROWD = 8
"""Rows of which more than CROWD * k entries reach the floor are selected from level by level, and
so are all rows if half as many do on average: ties, or large entries side by side."""

GROUP = 4
"""Columns per group of a level, which costs about as much as a `topk` of GROUP * k columns."""

DIRECT = 16
"""Rows of at most DIRECT * k columns are not worth a level."""

POOLED = 16
"""Groups up to this size are faster pooled than reduced, on a CPU."""


def top_indices(keys: Tensor, k: int, *, positive: bool = False) -> Tensor:
    """Columns (rows k), int64 and ascending, of the k largest keys (rows width) of each row.

    NaN ranks above every number, and among equals the lowest column wins. With `positive` the
    caller has no use for keys of 0 or below, and which of those fill a row is not specified.
    """
    rows, width = keys.shape
    if k == width:
        return torch.arange(width, device=keys.device).expand(rows, width)
    if not is_pruned(rows, width, k):
        return _by_levels(keys, k, positive)
    entries, found = contenders(keys, k, positive=positive)
    chosen = best(entries, found, keys.shape, k, positive=positive)
    return columns_of(entries.take(chosen), width)


def is_pruned(rows: int, width: int, k: int) -> bool:
    """Whether `contenders` is quicker than going level by level for rows of this size."""
    return rows > 0 and width >= LINES[-1] * FINE * k


def contenders(keys: Tensor, k: int, *, positive: bool = False) -> tuple[Tensor, Tensor]:
    """Positions row * width + column, ascending, of k to CROWD * k entries of each row, and keys.

    The k largest are among them, with every equal of the last of these or, of equals that are too
    many, those of the lowest columns. `positive` is as in `top_indices`.
    """
    length = next(n for n in LINES if keys.shape[1] >= n * FINE * k)
    gap = -keys.shape[1] % length
    lines = (F.pad(keys, (0, gap), value=_least(keys)) if gap else keys).contiguous()
    maxima = group_maxima(lines, length)
    floor = _floor(maxima, k)
    # Where it is NaN nothing reaches it; nor where it is the least, which would let in the filling.
    reached = (maxima >= floor) & (floor > _least(keys))
    line = reached.flatten().nonzero()[:, 0]
    if 2 * len(line) > maxima.numel():  # about a third at most, without ties
        return _chosen_by_levels(keys, k, positive)
    held = lines.view(-1, length).index_select(0, line)
    floor_of_line = floor[:, 0].index_select(0, line // maxima.shape[1])
    hits = held >= floor_of_line[:, None]
    if 2 * int(hits.count_nonzero()) > CROWD * k * len(keys):
        return _chosen_by_levels(keys, k, positive)
    place = hits.flatten().nonzero()[:, 0]
    left_out = (line - torch.arange(len(line), device=line.device)) * length
    entries = place + left_out.index_select(0, place // length)
    if gap:
        entries -= entries // lines.shape[1] * gap
    return _settled(entries, held.take(place), keys, k, positive)


def best(
    entries: Tensor, keys: Tensor, shape: tuple[int, int], k: int, *, positive: bool = False
) -> Tensor:
    """Places (rows k) in the lists `entries` and `keys` of what `top_indices` takes.

    `entries` are positions in a matrix of this shape (rows width) as `contenders` finds them.
    """
    starts, counts = _bounds(entries, *shape)
    slot = torch.arange(max(int(counts.max()), k + 1), device=keys.device)
    table = keys.take((starts + slot).clamp_(max=len(keys) - 1))
    table.masked_fill_(slot >= counts, _least(keys))
    return starts + _by_levels(table, k, positive)


def columns_of(positions: Tensor, width: int) -> Tensor:
    """Columns of positions row * width + column (rows k), one row of them for each row."""
    return positions - torch.arange(len(positions), device=positions.device)[:, None] * width


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


def _least(keys: Tensor) -> float | int:
    return -torch.inf if keys.is_floating_point() else torch.iinfo(keys.dtype).min


def _floor(maxima: Tensor, k: int) -> Tensor:
    """What at least k entries of each row reach (rows 1), from the maxima (rows lines) of lines."""
    group = maxima.shape[1] // (COARSE * k)
    coarse = group_maxima(maxima, group) if group > 1 else maxima
    return coarse.topk(k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)


def _bounds(entries: Tensor, rows: int, width: int) -> tuple[Tensor, Tensor]:
    """Where each row begins among the positions, and how many there are of it: (rows 1) twice."""
    ends = torch.arange(rows + 1, device=entries.device) * width
    bounds = torch.searchsorted(entries, ends)
    return bounds[:-1, None], bounds.diff()[:, None]


def _chosen_by_levels(keys: Tensor, k: int, positive: bool) -> tuple[Tensor, Tensor]:
    row = torch.arange(len(keys), device=keys.device)[:, None]
    entries = (_by_levels(keys, k, positive) + row * keys.shape[1]).flatten()
    return entries, keys.take(entries)


def _settled(
    entries: Tensor, found: Tensor, keys: Tensor, k: int, positive: bool
) -> tuple[Tensor, Tensor]:
    """`contenders` with the rows that have too few or too many replaced by their k largest."""
    rows, width = keys.shape
    counts = _bounds(entries, rows, width)[1][:, 0]
    unsettled = (counts < k) | (counts > CROWD * k)
    if not bool(unsettled.any()):
        return entries, found
    row = unsettled.nonzero()
    chosen = _by_levels(keys[row[:, 0]], k, positive) + row * width
    kept = entries[~unsettled.repeat_interleave(counts)]
    entries = torch.cat((kept, chosen.flatten())).sort().values
    return entries, keys.take(entries)


def _by_levels(keys: Tensor, k: int, positive: bool) -> Tensor:
    """`top_indices` by maxima of maxima, with as many steps whatever the keys."""
    # One more than asked for: the smallest is dropped, and if it has an equal the row has a tie.
    values, indices = _largest(keys, k + 1)
    smallest, slot = values.min(dim=-1, keepdim=True)
    indices = indices.scatter(1, slot, keys.shape[1]).sort(dim=-1).values[:, :k]
    unclear = ((values == smallest).sum(dim=-1) > 1) | smallest[:, 0].isnan()
    if positive:
        # The least may be what fills a table, which must not be chosen.
        unclear &= ~((smallest[:, 0] <= 0) & (smallest[:, 0] > _least(keys)))
    if bool(unclear.any()):
        rows_left = unclear.nonzero()[:, 0]
        indices[rows_left] = _resolve(keys[rows_left], k)
    return indices


def _largest(keys: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """The m largest keys of each row in any order: exact values, ties between columns open."""
    rows, width = keys.shape
    if width <= max(DIRECT * m, 64):
        return keys.topk(m, dim=-1, sorted=False)
    n = width // GROUP
    maxima = keys[:, : n * GROUP].unflatten(1, (GROUP, n)).amax(dim=1)
    group = _largest(maxima, m)[1]
    column = torch.arange(0, n * GROUP, n, device=keys.device)
    candidates = (group[:, None, :] + column[:, None]).flatten(1)
    if n * GROUP < width:  # the columns that fill no group are candidates always
        rest = torch.arange(n * GROUP, width, device=keys.device).expand(rows, -1)
        candidates = torch.cat((candidates, rest), dim=1)
    values, slot = keys.gather(1, candidates).topk(m, dim=-1, sorted=False)
    return values, candidates.gather(1, slot)


def _resolve(keys: Tensor, k: int) -> Tensor:
    """`top_indices` for rows with ties or NaN, by a full pass over each row."""
    threshold = keys.topk(k, dim=-1).values[:, -1:]
    nan = keys.isnan()
    above = (keys > threshold) | (nan & ~threshold.isnan())
    equal = (keys == threshold) | (nan & threshold.isnan())
    room = k - above.sum(dim=-1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(dim=-1, dtype=torch.int32) <= room))
    return chosen.nonzero()[:, 1].view(-1, k)
