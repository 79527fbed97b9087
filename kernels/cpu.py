"""The CPU path: library calls that exploit sparsity. The meaning of each is in `reference.py`.

float32 and float64 are computed as they are, float16 and bfloat16 in float32 and rounded once at
the end of each operation. Every function gives the same bits each time for the same thread count.
Nothing is kept between calls, so any number of threads may call at once.
"""

import warnings
from collections.abc import Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.kernels.checks import check_range
from pellucid.kernels.chunks import row_chunks, select
from pellucid.kernels.csc import FeatureGradients
from pellucid.kernels.modes import candidate_count
from pellucid.kernels.near import best_candidates, rounded
from pellucid.kernels.select import not_top, top_indices
from pellucid.kernels.slots import ByUnit, Slots, slots_in_use, sorted_by_unit


def topk_rows(x: Tensor, k: int, signed: bool, relu: bool) -> tuple[Tensor, Tensor]:
    """Values (rows k) in the dtype of x, int32 indices (rows k) ascending."""
    parts = row_chunks(*x.shape, _compute_dtype(x).itemsize, least=1)
    held = ((part, wide(x[part])) for part in parts)
    values, indices = select(held, k, signed=signed)
    values = values.to(x.dtype)
    return drop_inactive(values.relu_(), indices) if relu else (values, indices)


def topk_dropped(x: Tensor, k: int, signed: bool) -> Tensor:
    """Where x (rows width) has none of the k entries of each row that `topk_rows` takes."""
    rows = wide(x)
    return not_top(rows.abs() if signed else rows, k)


def topk_rows_backward(grad: Tensor, indices: Tensor, width: int) -> Tensor:
    """Gradient (rows width) of the values (rows k) that `topk_rows` took from `indices`."""
    # Unused slots add 0 to column 0, which changes nothing in any order.
    used = grad.masked_fill(indices < 0, 0)
    return grad.new_zeros(len(grad), width).scatter_add_(1, indices.long().clamp(min=0), used)


def encode_topk(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool, mode: str
) -> tuple[Tensor, Tensor]:
    """One product over a chunk of rows at a time into one buffer, then the selection from it."""
    if mode == "fp8":
        return _encode_refined(x, w_enc, b_enc, k, signed)
    values, indices = select(_pre_activations(x, w_enc, b_enc), k, signed=signed, mode=mode)
    values = values.to(x.dtype)
    return drop_inactive(values if signed else values.relu_(), indices)


def _encode_refined(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool
) -> tuple[Tensor, Tensor]:
    """Candidates from the product of the tensors rounded to 8 bits, then exact ones of these."""
    candidates = x.new_empty(len(x), candidate_count(len(w_enc), k), dtype=torch.int32)
    for part, scores in _pre_activations(rounded(x), rounded(w_enc), b_enc):
        keys = scores.abs() if signed else scores
        candidates[part] = top_indices(keys, candidates.shape[1])
    pre = sddmm(wide(x), wide(w_enc), candidates) + wide(b_enc)[candidates.long()]
    values, indices = best_candidates(pre, candidates, k, signed)
    return drop_inactive(values.to(x.dtype), indices)


def _pre_activations(x: Tensor, w_enc: Tensor, b_enc: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of rows and their pre-activations, which live until the next chunk is asked for."""
    inputs, weight, bias = wide(x), wide(w_enc), wide(b_enc)
    parts = row_chunks(len(x), len(w_enc), inputs.element_size())
    if _has_onednn() and inputs.dtype == torch.float32 and len(x):
        product = torch.ops.mkldnn._linear_pointwise
        for part in parts:
            yield part, product(inputs[part], weight, bias, "none", [], "")
        return
    buffer = inputs.new_empty(parts[0].stop, len(w_enc))
    for part in parts:
        yield part, torch.addmm(bias, inputs[part], weight.T, out=buffer[: part.stop - part.start])


@cache
def _has_onednn() -> bool:
    """Whether torch has oneDNN's product of what a layer reads, as compiled models call it.

    Where the other library knows the processor badly it takes two thirds of the time.
    """
    return hasattr(torch.ops.mkldnn, "_linear_pointwise")


def drop_inactive(values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Moves slots of value 0 to the end of their row, with index -1."""
    inactive = values == 0
    if not bool(inactive.any()):
        return values, indices
    order = inactive.byte().argsort(dim=-1, stable=True)
    return values.gather(1, order), indices.masked_fill(inactive, -1).gather(1, order)


def encode_topk_backward(
    grad: Tensor, indices: Tensor, x: Tensor, w_enc: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (rows d), w_enc (width d) and b_enc (width) from that of the values."""
    slots = slots_in_use(indices)
    return _encoder_gradients(grad, slots, sorted_by_unit(slots, len(w_enc)), x, w_enc)


def sparse_decode(values: Tensor, indices: Tensor, w_dec: Tensor) -> Tensor:
    """An embedding bag per row; rows of w_dec that no slot names are never read."""
    check_range("sparse_decode", indices, len(w_dec))
    return _decode(values, slots_in_use(indices), w_dec)


def sparse_decode_backward(
    grad: Tensor, values: Tensor, indices: Tensor, w_dec: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the values (rows k; 0 where the index is -1) and of w_dec (width d)."""
    slots = slots_in_use(indices)
    by_unit = sorted_by_unit(slots, len(w_dec))
    return _value_gradient(grad, values, slots, w_dec), _weight_gradient(values, by_unit, grad)


def sddmm(x: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """Products (rows k) of x (rows d) with the rows of weight (width d) that the slots name."""
    check_range("sddmm", indices, len(weight))
    like = x.new_empty(indices.shape)
    return _value_gradient(x, like, slots_in_use(indices), weight)


def topk_mlp(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor, k: int, signed: bool, mode: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The two halves, one after the other: the same bits by construction."""
    values, indices = encode_topk(x, w_enc, b_enc, k, signed, mode)
    return _decode(values, slots_in_use(indices), w_dec), values, indices


def topk_mlp_backward(
    grad: Tensor, values: Tensor, indices: Tensor, x: Tensor, w_enc: Tensor, w_dec: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, w_enc, b_enc, w_dec; one sort by unit serves all the weights."""
    slots = slots_in_use(indices)
    by_unit = sorted_by_unit(slots, len(w_enc))
    d_values = _value_gradient(grad, values, slots, w_dec)
    d_inputs = _encoder_gradients(d_values, slots, by_unit, x, w_enc)
    return *d_inputs, _weight_gradient(values, by_unit, grad)


def bwd_features(
    offsets: Tensor,
    slots: Tensor,
    values: Tensor | None,
    grad_values: Tensor | None,
    dy: Tensor | None,
    x: Tensor | None,
    w_dec: Tensor | None,
) -> FeatureGradients:
    """Gradients of the weights from slots sorted by unit, as CSR matrices of units by rows."""
    used = slots[: int(offsets[-1])].long()
    d_w_dec = d_w_enc = d_b_enc = d_values = None
    if values is not None and dy is not None and w_dec is not None:
        row = (used // values.shape[1]).int()
        pattern = _csr(offsets, row, wide(dy).new_zeros(len(used)), (len(w_dec), len(dy)))
        dots = torch.sparse.sampled_addmm(pattern, wide(w_dec), wide(dy).T, beta=0.0).values()
        flat = torch.zeros_like(values).flatten()
        grad_values = d_values = flat.index_copy_(0, used, dots.to(flat.dtype)).view(values.shape)
        d_w_dec = _weighted_rows(offsets, row, values.flatten()[used], dy).to(w_dec.dtype)
    if grad_values is not None and x is not None:
        row, weights = (used // grad_values.shape[1]).int(), grad_values.flatten()[used]
        d_w_enc = _weighted_rows(offsets, row, weights, x)
        d_b_enc = _weighted_rows(offsets, row, weights, x.new_ones(len(x), 1))[:, 0]
    return FeatureGradients(d_w_dec, d_w_enc, d_b_enc, d_values)


def _decode(values: Tensor, slots: Slots, weight: Tensor) -> Tensor:
    return _weighted_rows(slots.offsets, slots.unit, slots.take(values), weight)


def _weighted_rows(offsets: Tensor, row: Tensor, weights: Tensor, dense: Tensor) -> Tensor:
    """CSR matrix of weights at columns `row`, times dense: an embedding bag for each of its rows.

    Several times as fast as the product of a sparse tensor, and each bag is summed in its order.
    """
    if not len(row):
        return dense.new_zeros(len(offsets) - 1, dense.shape[1])
    bags = F.embedding_bag(
        row,
        wide(dense),
        offsets,
        per_sample_weights=wide(weights),
        mode="sum",
        include_last_offset=True,
    )
    return bags.to(dense.dtype)


def _value_gradient(grad: Tensor, values: Tensor, slots: Slots, w_dec: Tensor) -> Tensor:
    """d(value) = grad · w_dec[index], for the slots in use only."""
    wanted, weight = wide(grad), wide(w_dec)
    pattern = _csr(
        slots.offsets, slots.unit, wanted.new_zeros(len(slots.unit)), (len(values), len(weight))
    )
    dots = torch.sparse.sampled_addmm(pattern, wanted, weight.T, beta=0.0).values()
    if slots.used is None:
        return dots.view(values.shape).to(values.dtype)
    flat = values.new_zeros(values.numel())
    return flat.index_copy_(0, slots.used, dots.to(values.dtype)).view(values.shape)


def _weight_gradient(values: Tensor, by_unit: ByUnit, dense: Tensor) -> Tensor:
    return _weighted_rows(by_unit.offsets, by_unit.row, by_unit.take(values), dense)


def _encoder_gradients(
    d_values: Tensor, slots: Slots, by_unit: ByUnit, x: Tensor, w_enc: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    d_weight = _weight_gradient(d_values, by_unit, x)
    # Counts one slot after the other: the order of a unit's bag.
    d_bias = torch.bincount(slots.unit, slots.take(wide(d_values)), len(w_enc)).to(x.dtype)
    return _decode(d_values, slots, w_enc), d_weight, d_bias


def _csr(offsets: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(offsets, columns, values, size, check_invariants=False)


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def wide(x: Tensor) -> Tensor:
    """A tensor in the type it is computed in: float32 for the halves."""
    return x.to(_compute_dtype(x))


def _hear_beta_notice() -> None:
    """torch says once per process that CSR is in beta: said here, where nobody need read it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _csr(
            torch.zeros(2, dtype=torch.int32),
            torch.zeros(0, dtype=torch.int32),
            torch.zeros(0),
            (1, 1),
        )


_hear_beta_notice()
