"""Backward passes of the operations: one sort by unit, one pass for the weights, one for the input.

Same functions and meaning as in `cpu.py`. The fused pass of `topk_mlp_backward` and the two halves
use the same tiles in the same order and round between them in the same place: the same bits.
"""

from torch import Tensor

from pellucid.kernels.csc import sort_by_unit
from pellucid.kernels.gpu.decode import sparse_decode
from pellucid.kernels.gpu.features import bwd_features


def sparse_decode_backward(
    grad: Tensor, values: Tensor, indices: Tensor, w_dec: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the values (rows k; 0 where the index is -1) and of w_dec (width d)."""
    by_unit = sort_by_unit(indices, len(w_dec))
    made = bwd_features(by_unit.offsets, by_unit.slots, values, dy=grad, w_dec=w_dec)
    return made.d_values, made.d_w_dec


def encode_topk_backward(
    grad: Tensor, indices: Tensor, x: Tensor, w_enc: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (rows d), w_enc (width d) and b_enc (width) from that of the values."""
    by_unit = sort_by_unit(indices, len(w_enc))
    made = bwd_features(by_unit.offsets, by_unit.slots, grad_values=grad, x=x)
    return sparse_decode(grad, indices, w_enc), made.d_w_enc, made.d_b_enc


def topk_mlp_backward(
    grad: Tensor, values: Tensor, indices: Tensor, x: Tensor, w_enc: Tensor, w_dec: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, w_enc, b_enc, w_dec; dy and x are read once each, unit by unit."""
    offsets, slots, _ = sort_by_unit(indices, len(w_enc))
    if grad.shape[1] == x.shape[1]:
        made = encoder = bwd_features(offsets, slots, values, dy=grad, x=x, w_dec=w_dec)
    else:  # one pass walks rows of one length
        made = bwd_features(offsets, slots, values, dy=grad, w_dec=w_dec)
        encoder = bwd_features(offsets, slots, grad_values=made.d_values, x=x)
    d_x = sparse_decode(made.d_values, indices, w_enc)
    return d_x, encoder.d_w_enc, encoder.d_b_enc, made.d_w_dec
