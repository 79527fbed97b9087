"""The operations: checked entry points over `torch.library` operators with gradients.

Each operator has a fake and an autograd formula whose backward is an operator again, so that
`torch.compile` sees one node either way. What runs inside is the path of the tensor's device
(`paths.py`): a module with the functions that `cpu.py` has.

Ties: the lowest index wins. NaN: ranks above every number and counts as active, so it reaches the
output and the loss. Indices are not differentiable, nor are the values that `topk_mlp` returns.
"""

import torch
from torch import Tensor
from torch.library import custom_op

from pellucid.kernels.checks import (
    check_encode,
    check_groups,
    check_k,
    check_sddmm,
    check_signs,
    check_slots,
    check_tensors,
)
from pellucid.kernels.paths import serving


def topk_rows(
    x: Tensor, k: int, *, signed: bool = False, relu: bool = False
) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row of x (rows width), or the largest by magnitude if `signed`.

    Returns values (rows k), differentiable and with their sign, and int32 indices (rows k) in
    ascending order. With `relu` the values are positive: what is not is inactive, its slots come
    last with value 0 and index -1, and get no gradient. NaN is selected first and stays NaN, with
    `relu` too. ValueError if x is not a 2-D float tensor, k is not in 1..width, or both flags are
    set.
    """
    check_tensors("topk_rows", x=(x, 2))
    check_k("topk_rows", k, x.shape[1])
    check_signs("topk_rows", signed, relu)
    return _topk_rows(x, k, signed, relu)


def encode_topk(
    x: Tensor,
    w_enc: Tensor,
    b_enc: Tensor,
    k: int,
    *,
    signed: bool = False,
    mode: str = "exact",
) -> tuple[Tensor, Tensor]:
    """The k largest of ReLU(x w_encᵀ + b_enc) in each row, or of the magnitudes if `signed`.

    x (rows d), w_enc (width d), b_enc (width). Returns values (rows k), differentiable, and int32
    indices (rows k), ascending; inactive slots come last, with value 0 and index -1. `modes.py`
    says what the modes `groupmax` and `fp8` may miss. ValueError for another mode, and for shapes,
    dtypes or devices that do not agree. (TopK autoencoders: arXiv 2406.04093.)
    """
    x, w_enc, b_enc = _autocast(x, w_enc, b_enc)
    check_encode("encode_topk", x, w_enc, b_enc, k, mode)
    return _encode_topk(x, w_enc, b_enc, k, signed, mode)


def sparse_decode(values: Tensor, indices: Tensor, w_dec: Tensor) -> Tensor:
    """Sum over slots of value times w_dec[index]: (rows k) twice and (width d) give (rows d).

    Indices are int32 and unique in their row; slots of index -1 add nothing and get
    gradient 0. ValueError for shapes, dtypes or devices that do not agree.
    """
    values, w_dec = _autocast(values, w_dec)
    check_slots("sparse_decode", values, indices, w_dec)
    return _sparse_decode(values, indices, w_dec)


def sddmm(x: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """Products x · weight[index] at the named places only: (rows d), (width d) give (rows k).

    Indices (rows k) are int32; slots of index -1 give 0. Differentiable in x and weight.
    ValueError for shapes, dtypes or devices that do not agree.
    """
    x, weight = _autocast(x, weight)
    check_sddmm("sddmm", x, weight, indices)
    return _sddmm(x, weight, indices)


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
    """`encode_topk` then `sparse_decode` in one step that keeps x, values and indices only.

    Returns the output (rows d) and the values and indices of the encoder, which here carry no
    gradient. Output and gradients have the same bits as those of the two steps.
    """
    x, w_enc, b_enc, w_dec = _autocast(x, w_enc, b_enc, w_dec)
    check_encode("topk_mlp", x, w_enc, b_enc, k, mode)
    check_tensors("topk_mlp", w_enc=(w_enc, 2), w_dec=(w_dec, 2))
    if len(w_dec) != len(w_enc):
        raise ValueError(
            f"topk_mlp: w_dec must have the {len(w_enc)} rows (units) of w_enc, got {len(w_dec)}"
        )
    return _topk_mlp(x, w_enc, b_enc, w_dec, k, signed, mode)


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Under autocast, what autocast does to the inputs of a linear layer."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(
        t.to(dtype) if t.dtype in (torch.float32, torch.float16, torch.bfloat16) else t
        for t in tensors
    )


@custom_op("pellucid::topk_rows", mutates_args=())
def _topk_rows(x: Tensor, k: int, signed: bool, relu: bool) -> tuple[Tensor, Tensor]:
    return serving(x).topk_rows(x, k, signed, relu)


@custom_op("pellucid::topk_rows_backward", mutates_args=())
def _topk_rows_backward(grad: Tensor, indices: Tensor, width: int) -> Tensor:
    return serving(grad).topk_rows_backward(grad, indices, width)


@custom_op("pellucid::encode_topk", mutates_args=())
def _encode_topk(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool, mode: str
) -> tuple[Tensor, Tensor]:
    check_groups("encode_topk", mode, k, len(w_enc))
    return serving(x).encode_topk(x, w_enc, b_enc, k, signed, mode)


@custom_op("pellucid::encode_topk_backward", mutates_args=())
def _encode_topk_backward(
    grad: Tensor, indices: Tensor, x: Tensor, w_enc: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return serving(grad).encode_topk_backward(grad, indices, x, w_enc)


@custom_op("pellucid::sparse_decode", mutates_args=())
def _sparse_decode(values: Tensor, indices: Tensor, w_dec: Tensor) -> Tensor:
    return serving(values).sparse_decode(values, indices, w_dec)


@custom_op("pellucid::sparse_decode_backward", mutates_args=())
def _sparse_decode_backward(
    grad: Tensor, values: Tensor, indices: Tensor, w_dec: Tensor
) -> tuple[Tensor, Tensor]:
    return serving(grad).sparse_decode_backward(grad, values, indices, w_dec)


@custom_op("pellucid::sddmm", mutates_args=())
def _sddmm(x: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    return serving(x).sddmm(x, weight, indices)


@custom_op("pellucid::topk_mlp", mutates_args=())
def _topk_mlp(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor, k: int, signed: bool, mode: str
) -> tuple[Tensor, Tensor, Tensor]:
    check_groups("topk_mlp", mode, k, len(w_enc))
    return serving(x).topk_mlp(x, w_enc, b_enc, w_dec, k, signed, mode)


@custom_op("pellucid::topk_mlp_backward", mutates_args=())
def _topk_mlp_backward(
    grad: Tensor, values: Tensor, indices: Tensor, x: Tensor, w_enc: Tensor, w_dec: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return serving(grad).topk_mlp_backward(grad, values, indices, x, w_enc, w_dec)


def _fake_slots(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], k), x.new_empty(x.shape[0], k, dtype=torch.int32)


@_topk_rows.register_fake
def _(x, k, signed, relu):
    return _fake_slots(x, k)


@_topk_rows_backward.register_fake
def _(grad, indices, width):
    return grad.new_empty(grad.shape[0], width)


@_encode_topk.register_fake
def _(x, w_enc, b_enc, k, signed, mode):
    return _fake_slots(x, k)


@_encode_topk_backward.register_fake
def _(grad, indices, x, w_enc):
    return x.new_empty(x.shape), w_enc.new_empty(w_enc.shape), w_enc.new_empty(w_enc.shape[0])


@_sparse_decode.register_fake
def _(values, indices, w_dec):
    return w_dec.new_empty(values.shape[0], w_dec.shape[1])


@_sparse_decode_backward.register_fake
def _(grad, values, indices, w_dec):
    return values.new_empty(values.shape), w_dec.new_empty(w_dec.shape)


@_sddmm.register_fake
def _(x, weight, indices):
    return x.new_empty(indices.shape)


@_topk_mlp.register_fake
def _(x, w_enc, b_enc, w_dec, k, signed, mode):
    return x.new_empty(x.shape[0], w_dec.shape[1]), *_fake_slots(x, k)


@_topk_mlp_backward.register_fake
def _(grad, values, indices, x, w_enc, w_dec):
    encoder = (x.new_empty(x.shape), w_enc.new_empty(w_enc.shape), w_enc.new_empty(w_enc.shape[0]))
    return *encoder, w_dec.new_empty(w_dec.shape)


def _keep_topk_rows(ctx, inputs, output):
    ctx.save_for_backward(output[1])
    ctx.width = inputs[0].shape[1]


def _grad_topk_rows(ctx, grad, _):
    return _topk_rows_backward(grad.contiguous(), *ctx.saved_tensors, ctx.width), None, None, None


def _keep_encode(ctx, inputs, output):
    ctx.save_for_backward(output[1], inputs[0], inputs[1])


def _grad_encode(ctx, grad, _):
    return *_encode_topk_backward(grad.contiguous(), *ctx.saved_tensors), None, None, None


def _keep_decode(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _grad_decode(ctx, grad):
    d_values, d_weight = _sparse_decode_backward(grad.contiguous(), *ctx.saved_tensors)
    return d_values, None, d_weight


def _keep_sddmm(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _grad_sddmm(ctx, grad):
    x, weight, indices = ctx.saved_tensors
    grad = grad.contiguous()
    # The decoder of the gradient; the weight's share is that of a decoder whose output is x.
    d_weight = _sparse_decode_backward(x.contiguous(), grad, indices, weight)[1]
    return _sparse_decode(grad, indices, weight), d_weight, None


def _keep_mlp(ctx, inputs, output):
    x, w_enc, _, w_dec, *_ = inputs
    _, values, indices = output
    ctx.mark_non_differentiable(values, indices)
    ctx.save_for_backward(values, indices, x, w_enc, w_dec)


def _grad_mlp(ctx, grad, *_):
    return *_topk_mlp_backward(grad.contiguous(), *ctx.saved_tensors), None, None, None


_topk_rows.register_autograd(_grad_topk_rows, setup_context=_keep_topk_rows)
_encode_topk.register_autograd(_grad_encode, setup_context=_keep_encode)
_sparse_decode.register_autograd(_grad_decode, setup_context=_keep_decode)
_sddmm.register_autograd(_grad_sddmm, setup_context=_keep_sddmm)
_topk_mlp.register_autograd(_grad_mlp, setup_context=_keep_mlp)
