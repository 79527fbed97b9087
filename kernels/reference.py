"""What the operations of `pellucid.kernels` mean, in plain PyTorch: the oracle of their tests.

Everything is dense and differentiable by autograd, in any float dtype; nothing here is fast.
Axis words: rows (tokens), width (units), k (slots), d (d_model).
"""

from itertools import accumulate

import torch
from torch import Tensor

from pellucid.kernels.modes import candidate_count, group_size


def topk_rows(
    x: Tensor, k: int, *, signed: bool = False, relu: bool = False
) -> tuple[Tensor, Tensor]:
    """The k largest of each row (by magnitude if `signed`), ordered by index.

    NaN ranks above every number; among equals the lowest index wins, which is what a stable
    sort gives. Returns values (rows k), which keep their sign, and int32 indices (rows k). With
    `relu` of those the positive part (NaN stays NaN), and slots of value 0 are inactive.
    """
    rank = (x.abs() if signed else x).argsort(dim=-1, descending=True, stable=True)
    indices = rank[:, :k].sort(dim=-1).values
    values, indices = x.gather(1, indices), indices.int()
    return drop_inactive(values.relu(), indices) if relu else (values, indices)


def drop_inactive(values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Slots of value 0 at the end of their row, with index -1."""
    inactive = values == 0
    order = inactive.int().argsort(dim=-1, stable=True)
    return values.gather(1, order), indices.masked_fill(inactive, -1).gather(1, order)


def encode_topk(
    x: Tensor,
    w_enc: Tensor,
    b_enc: Tensor,
    k: int,
    *,
    signed: bool = False,
    mode: str = "exact",
) -> tuple[Tensor, Tensor]:
    """Top-k of x w_encᵀ + b_enc, after a ReLU unless `signed`; x (rows d), w_enc (width d).

    Of which units the k largest are taken is the `mode`'s to say: all, the largest of each group,
    or those that are largest if x and w_enc are rounded to 8 bits. Slots whose value is 0 are
    inactive: value 0, index -1, at the end of the row.
    """
    pre = x @ w_enc.T + b_enc
    pre = pre if signed else pre.relu()
    if mode == "groupmax":
        eligible = of_groups(pre.abs(), group_size(len(w_enc), k))
    elif mode == "fp8":
        scores = in_fp8(x) @ in_fp8(w_enc).T + b_enc
        eligible = topk_rows(scores, candidate_count(len(w_enc), k), signed=signed)[1].long()
    else:
        eligible = torch.arange(len(w_enc), device=x.device).expand(pre.shape)
    values, slots = topk_rows(pre.gather(1, eligible), k, signed=signed)
    indices = eligible.gather(1, slots.long()).int()
    return drop_inactive(values, indices)


def of_groups(keys: Tensor, group: int) -> Tensor:
    """The column of the largest key of each `group` columns side by side: (rows groups).

    NaN is the largest, the lowest column wins among equals, and the last group may be smaller.
    """
    parts = keys.split(group, dim=1)
    ranks = [part.argsort(dim=1, descending=True, stable=True)[:, :1] for part in parts]
    return torch.cat([group * i + rank for i, rank in enumerate(ranks)], dim=1)


def in_fp8(x: Tensor) -> Tensor:
    """Each row as multiples, rounded to float8_e4m3fn, of its largest magnitude over 448."""
    scale = x.detach().abs().amax(dim=1, keepdim=True).float() / 448
    scale = scale.clamp_min(torch.finfo(torch.float32).tiny)
    return (x.detach().float() / scale).to(torch.float8_e4m3fn).to(x.dtype) * scale.to(x.dtype)


def to_dense(values: Tensor, indices: Tensor, width: int) -> Tensor:
    """(rows k) slots as a (rows width) matrix; slots of index -1 vanish."""
    column = indices.long().where(indices >= 0, width)
    return values.new_zeros(len(values), width + 1).scatter_add(1, column, values)[:, :width]


def sparse_decode(values: Tensor, indices: Tensor, w_dec: Tensor) -> Tensor:
    """Each row's sum of value times the row of w_dec (width d) that its index names."""
    return to_dense(values, indices, len(w_dec)) @ w_dec


def sddmm(x: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """x (rows d) times the rows of weight (width d) that each row names; 0 where the index is -1."""
    taken = (x @ weight.T).gather(1, indices.long().clamp(min=0))
    return taken.masked_fill(indices < 0, 0)


def csc_build(indices: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets (width + 1), slots (rows * k) and counts (width) of the slots (rows k) by unit, int32.

    A unit's slots are in the order of rows; those of no unit come last.
    """
    units = indices.flatten().tolist()
    inside = [slot for slot, unit in enumerate(units) if 0 <= unit < width]
    outside = [slot for slot, unit in enumerate(units) if not 0 <= unit < width]
    counts = [0] * width
    for slot in inside:
        counts[units[slot]] += 1
    offsets = [0, *accumulate(counts)]
    slots = sorted(inside, key=lambda slot: units[slot]) + outside
    return tuple(torch.tensor(found, dtype=torch.int32) for found in (offsets, slots, counts))


def bwd_features(
    indices: Tensor, values: Tensor, dy: Tensor, w_dec: Tensor, x: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """d_w_dec, d_w_enc (width d), d_b_enc (width) and d_values (rows k), through dense matrices.

    Of values (rows k), dy (rows d), the gradient of the decoder's output, and x (rows d).
    """
    d_values = sddmm(dy, w_dec, indices)
    d_pre = to_dense(d_values, indices, len(w_dec))
    d_w_dec = to_dense(values, indices, len(w_dec)).T @ dy
    return d_w_dec, d_pre.T @ x, d_pre.sum(0), d_values


def bwd_input(grad_values: Tensor, indices: Tensor, w_enc: Tensor) -> Tensor:
    """Gradient (rows d) of a layer's input, of those of its values (rows k) and w_enc (width d)."""
    return to_dense(grad_values, indices, len(w_enc)) @ w_enc


def topk_mlp(
    x: Tensor,
    w_enc: Tensor,
    b_enc: Tensor,
    w_dec: Tensor,
    k: int,
    *,
    signed: bool = False,
    mode: str = "exact",
) -> tuple[Tensor, Tensor, Tensor]:
    """`encode_topk`, then `sparse_decode`: output (rows d), and the values and indices."""
    values, indices = encode_topk(x, w_enc, b_enc, k, signed=signed, mode=mode)
    return sparse_decode(values, indices, w_dec), values.detach(), indices


def weight_topk_mask(weight: Tensor, keep: int, *, per_row: int = 0, per_column: int = 0) -> Tensor:
    """Which entries of a matrix (rows columns) `weight_topk_` keeps, as bool of its shape.

    The `per_row` largest magnitudes of each row and `per_column` of each column come first, then
    the others by magnitude; NaN is the largest, and among equals the lowest flat index is first.
    Kept are the first `keep`, or all that come first where those are more. (arXiv 2511.13653.)
    """
    size = weight.abs()
    by_row = size.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    by_column = size.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
    guarded = ((by_row < per_row) | (by_column < per_column)).flatten()
    order = size.flatten().argsort(descending=True, stable=True)
    order = order[guarded[order].int().argsort(descending=True, stable=True)]
    mask = torch.zeros_like(guarded)
    mask[order[: max(keep, int(guarded.sum()))]] = True
    return mask.view(weight.shape)
