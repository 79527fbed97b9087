"""What a CUDA device runs: the Triton kernels, under the names that `cpu.py` gives its functions.

float64, and selections larger than the kernels serve, are computed by library calls; the first of
each says so.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from pellucid.kernels import dense
from pellucid.kernels.checks import check_range
from pellucid.kernels.csc import FeatureGradients
from pellucid.kernels.gpu import decode, encode, features, fp8, gradients, groupmax, rows
from pellucid.kernels.gpu import sddmm as products
from pellucid.kernels.modes import candidate_count
from pellucid.kernels.paths import say_once


def on_its_device(launcher: Callable) -> Callable:
    """Run where the first tensor lies: Triton launches on the current device otherwise."""

    @functools.wraps(launcher)
    def call(first: Tensor, *rest):
        if not first.is_cuda:
            return launcher(first, *rest)
        with torch.cuda.device(first.device):
            return launcher(first, *rest)

    return call


def unless_double(fallback: Callable) -> Callable:
    """Serve float64 by the function of `dense.py` with the same name, and say so once."""

    def wrap(launcher: Callable) -> Callable:
        launched = on_its_device(launcher)

        @functools.wraps(launcher)
        def call(first: Tensor, *rest):
            if first.dtype != torch.float64:
                return launched(first, *rest)
            say_once("pellucid.kernels, cuda: float64 by dense products and library calls")
            return fallback(first, *rest)

        return call

    return wrap


@unless_double(dense.topk_rows)
def topk_rows(x: Tensor, k: int, signed: bool, relu: bool) -> tuple[Tensor, Tensor]:
    """Exact selection by group maxima; shapes as in `reference.topk_rows`."""
    if not rows.serves(x.shape[1], k):
        say_once(f"pellucid.kernels, cuda: k = {k} of {x.shape[1]} columns by library calls")
        return dense.topk_rows(x, k, signed, relu)
    return rows.topk_rows(x, k, signed, relu)


@on_its_device
def topk_dropped(x: Tensor, k: int, signed: bool) -> Tensor:
    """Where x (rows width) has none of the k entries of each row that `topk_rows` takes."""
    _, indices = topk_rows(x, k, signed, False)
    return torch.ones_like(x, dtype=torch.bool).scatter_(1, indices.long(), False)


topk_rows_backward = on_its_device(dense.topk_rows_backward)


@unless_double(dense.encode_topk)
def encode_topk(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool, mode: str
) -> tuple[Tensor, Tensor]:
    """The encoder of a mode: library product and selection, fused group maxima, or 8 bits."""
    selected = candidate_count(len(w_enc), k) if mode == "fp8" else k
    if not rows.serves(len(w_enc), selected):
        say_once(f"pellucid.kernels, cuda: k = {k} of {len(w_enc)} columns by library calls")
        return dense.encode_topk(x, w_enc, b_enc, k, signed, mode)
    if mode == "groupmax":
        return groupmax.encode_groupmax(x, w_enc, b_enc, k, signed)
    if mode == "fp8":
        return fp8.encode_fp8(x, w_enc, b_enc, k, signed)
    return encode.encode_topk(x, w_enc, b_enc, k, signed)


encode_topk_backward = unless_double(dense.encode_topk_backward)(gradients.encode_topk_backward)


@unless_double(dense.sparse_decode)
def sparse_decode(values: Tensor, indices: Tensor, w_dec: Tensor) -> Tensor:
    """Rows of w_dec gathered and added up; an index out of range gives NaN unless it is checked."""
    check_range("sparse_decode", indices, len(w_dec))
    return decode.sparse_decode(values, indices, w_dec)


@unless_double(dense.sddmm)
def sddmm(x: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """Rows of weight gathered and multiplied; an index out of range gives NaN unless checked."""
    check_range("sddmm", indices, len(weight))
    return products.sddmm(x, weight, indices)


sparse_decode_backward = unless_double(dense.sparse_decode_backward)(
    gradients.sparse_decode_backward
)
topk_mlp_backward = unless_double(dense.topk_mlp_backward)(gradients.topk_mlp_backward)


def topk_mlp(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor, k: int, signed: bool, mode: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The two halves, one after the other: the same bits by construction."""
    values, indices = encode_topk(x, w_enc, b_enc, k, signed, mode)
    return sparse_decode(values, indices, w_dec), values, indices


def bwd_features(
    offsets: Tensor,
    slots: Tensor,
    values: Tensor | None,
    grad_values: Tensor | None,
    dy: Tensor | None,
    x: Tensor | None,
    w_dec: Tensor | None,
) -> FeatureGradients:
    """One pass over the slots in the order of their units."""
    given = next(t for t in (dy, x) if t is not None)
    served = dense.bwd_features if given.dtype == torch.float64 else features.bwd_features
    return on_its_device(served)(offsets, slots, values, grad_values, dy, x, w_dec)
