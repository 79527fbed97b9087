"""The path of a device that has no kernel of its own: exact selection, dense matrix products.

Same functions and meaning as `cpu.py`. It needs rows x width of memory and no sparse library.
float16 and bfloat16 are computed in float32, but for CUDA, whose products add up in float32 anyway.
"""

import torch
from torch import Tensor

from pellucid.kernels import cpu
from pellucid.kernels.checks import check_range
from pellucid.kernels.cpu import drop_inactive
from pellucid.kernels.csc import FeatureGradients, unit_of_slots
from pellucid.kernels.modes import candidate_count
from pellucid.kernels.near import best_candidates, choose, rounded
from pellucid.kernels.select import not_top, top_indices


def topk_rows(x: Tensor, k: int, signed: bool, relu: bool) -> tuple[Tensor, Tensor]:
    """Selection by library calls; shapes as in `reference.topk_rows`."""
    chosen = top_indices(x.abs() if signed else x, k)
    values, indices = x.gather(1, chosen), chosen.int()
    return drop_inactive(values.relu(), indices) if relu else (values, indices)


def topk_dropped(x: Tensor, k: int, signed: bool) -> Tensor:
    """Where x (rows width) has none of the k entries of each row that `topk_rows` takes."""
    return not_top(x.abs() if signed else x, k)


def topk_rows_backward(grad: Tensor, indices: Tensor, width: int) -> Tensor:
    """Gradient of the selected values, scattered to their columns; unused slots add 0."""
    used = grad.masked_fill(indices < 0, 0)
    return grad.new_zeros(len(grad), width).scatter_add_(1, indices.long().clamp(min=0), used)


def encode_topk(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool, mode: str
) -> tuple[Tensor, Tensor]:
    """Selection after one dense product; `fp8` rounds to 8 bits and multiplies in float32."""
    if mode == "fp8":
        return _encode_refined(x, w_enc, b_enc, k, signed)
    pre = torch.addmm(wide(b_enc), wide(x), wide(w_enc).T)
    chosen = choose(pre, k, signed, mode)
    taken = pre.gather(1, chosen)
    return drop_inactive((taken if signed else taken.relu()).to(x.dtype), chosen.int())


def _encode_refined(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool
) -> tuple[Tensor, Tensor]:
    scores = torch.addmm(wide(b_enc), rounded(x), rounded(w_enc).T)
    candidates = top_indices(scores.abs() if signed else scores, candidate_count(len(w_enc), k))
    pre = torch.addmm(wide(b_enc), wide(x), wide(w_enc).T).gather(1, candidates)
    values, indices = best_candidates(pre, candidates, k, signed)
    return drop_inactive(values.to(x.dtype), indices.int())


def encode_topk_backward(
    grad: Tensor, indices: Tensor, x: Tensor, w_enc: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, encoder and bias by dense products."""
    d_pre = _to_dense(grad, indices, len(w_enc))
    d_x, d_weight = d_pre @ wide(w_enc), d_pre.T @ wide(x)
    return d_x.to(x.dtype), d_weight.to(x.dtype), d_pre.sum(dim=0).to(x.dtype)


def sparse_decode(values: Tensor, indices: Tensor, w_dec: Tensor) -> Tensor:
    """The decoder as one dense product."""
    check_range("sparse_decode", indices, len(w_dec))
    return (_to_dense(values, indices, len(w_dec)) @ wide(w_dec)).to(w_dec.dtype)


def sparse_decode_backward(
    grad: Tensor, values: Tensor, indices: Tensor, w_dec: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of values and decoder by dense products."""
    d_dense = wide(grad) @ wide(w_dec).T
    d_values = d_dense.gather(1, indices.long().clamp(min=0)).masked_fill(indices < 0, 0)
    d_weight = _to_dense(values, indices, len(w_dec)).T @ wide(grad)
    return d_values.to(values.dtype), d_weight.to(w_dec.dtype)


def sddmm(x: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """All products by one dense product, and of those the named ones."""
    check_range("sddmm", indices, len(weight))
    products = wide(x) @ wide(weight).T
    taken = products.gather(1, indices.long().clamp(min=0))
    return taken.masked_fill(indices < 0, 0).to(x.dtype)


def topk_mlp(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor, k: int, signed: bool, mode: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The whole layer: selection, then a dense product."""
    values, indices = encode_topk(x, w_enc, b_enc, k, signed, mode)
    return sparse_decode(values, indices, w_dec), values, indices


def topk_mlp_backward(
    grad: Tensor, values: Tensor, indices: Tensor, x: Tensor, w_enc: Tensor, w_dec: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the whole layer by dense products."""
    d_values, d_w_dec = sparse_decode_backward(grad, values, indices, w_dec)
    return *encode_topk_backward(d_values, indices, x, w_enc), d_w_dec


def bwd_features(
    offsets: Tensor,
    slots: Tensor,
    values: Tensor | None,
    grad_values: Tensor | None,
    dy: Tensor | None,
    x: Tensor | None,
    w_dec: Tensor | None,
) -> FeatureGradients:
    """Gradients of the weights by dense products."""
    d_w_dec = d_w_enc = d_b_enc = d_values = None
    if values is not None and dy is not None and w_dec is not None:
        indices = unit_of_slots(offsets, slots, values)
        d_values, d_w_dec = sparse_decode_backward(dy, values, indices, w_dec)
        grad_values = d_values
    if grad_values is not None and x is not None:
        d_pre = _to_dense(grad_values, unit_of_slots(offsets, slots, grad_values), len(offsets) - 1)
        d_w_enc, d_b_enc = (d_pre.T @ wide(x)).to(x.dtype), d_pre.sum(dim=0).to(x.dtype)
    return FeatureGradients(d_w_dec, d_w_enc, d_b_enc, d_values)


def wide(x: Tensor) -> Tensor:
    """A tensor in the type it is computed in."""
    return x if x.is_cuda else cpu.wide(x)


def _to_dense(values: Tensor, indices: Tensor, width: int) -> Tensor:
    column = indices.long().where(indices >= 0, width)  # padding lands in a column cut off again
    dense = wide(values).new_zeros(len(values), width + 1)
    return dense.scatter_add_(1, column, wide(values))[:, :width]
