"""Parts of the nearly exact modes that library calls do on any device; `modes.py` has the rules."""

import torch
from torch import Tensor

from pellucid.kernels.modes import group_size
from pellucid.kernels.select import group_maxima, top_indices

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max


def choose(pre: Tensor, k: int, signed: bool, mode: str) -> Tensor:
    """Columns (rows k), int64 and ascending, that `exact` or `groupmax` takes of pre (rows width)."""
    keys = pre.abs() if signed else pre
    if mode == "exact":
        return top_indices(keys, k)
    return top_of_groups(keys, k, group_size(pre.shape[1], k))


def top_of_groups(keys: Tensor, k: int, group: int) -> Tensor:
    """Columns (rows k), ascending, of the k largest of the groups' largest keys (rows width).

    Groups are `group` columns side by side, the last perhaps fewer. Ties are as in
    `select.top_indices`.
    """
    rows, width = keys.shape
    chosen = top_indices(group_maxima(keys, group), k)
    first = chosen[:, :, None] * group
    columns = (first + torch.arange(group, device=keys.device)).clamp_(max=width - 1).flatten(1)
    place = keys.gather(1, columns).view(rows, k, group).argmax(dim=2)  # the first of equals
    return first[:, :, 0] + place


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of x (rows d) as float8_e4m3fn times a float32 scale (rows 1), absmax / 448 of each."""
    wide = x.float()
    scale = wide.abs().amax(dim=1, keepdim=True) / LARGEST
    scale = scale.clamp_min(torch.finfo(torch.float32).tiny)  # a row of zeros stays one
    return (wide / scale).to(FLOAT8), scale


def rounded(x: Tensor) -> Tensor:
    """x (rows d) as `quantise` keeps it, in the dtype of x or float32, whichever is wider."""
    values, scale = quantise(x)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return values.to(dtype) * scale.to(dtype)


def best_candidates(pre: Tensor, candidates: Tensor, k: int, signed: bool) -> tuple[Tensor, Tensor]:
    """The k largest of pre (rows m), after a ReLU unless `signed`, and their columns (rows k).

    `candidates` are the columns of pre, ascending.
    """
    slots = choose(pre, k, signed, "exact")
    taken = pre.gather(1, slots)
    return taken if signed else taken.relu(), candidates.gather(1, slots)
