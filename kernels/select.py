"""Exact row-wise top-k by group-max pruning, on any device, with library calls alone.

If a row is cut into groups, its k largest entries lie in the k groups with the largest maxima.
So the maxima are selected first, by the same rule, and only their groups are looked at again.
Groups are strided (columns j, j + n, j + 2n, …), which makes their maxima one vectorized pass.
"""

import torch
from torch import Tensor

GROUP = 4
"""Columns per group. A level costs about as much as a `topk` of GROUP * k columns."""

DIRECT = 16
"""Rows of at most DIRECT * k columns are not worth pruning."""


def top_indices(keys: Tensor, k: int, *, positive: bool = False) -> Tensor:
    """Columns (rows k), int64 and ascending, of the k largest keys (rows width) of each row.

    NaN ranks above every number, and among equals the lowest column wins. With `positive` the
    caller has no use for keys of 0 or below, and which of those fill a row is not specified.
    """
    rows, width = keys.shape
    if k == width:
        return torch.arange(width, device=keys.device).expand(rows, width)
    # One more than asked for: the smallest is dropped, and if it has an equal the row has a tie.
    values, indices = _largest(keys, k + 1)
    smallest, slot = values.min(dim=-1, keepdim=True)
    indices = indices.scatter(1, slot, width).sort(dim=-1).values[:, :k]
    unclear = ((values == smallest).sum(dim=-1) > 1) | smallest[:, 0].isnan()
    if positive:
        unclear &= ~(smallest[:, 0] <= 0)
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
    chosen = above | (equal & (equal.cumsum(dim=-1) <= room))
    return chosen.nonzero()[:, 1].view(-1, k)
