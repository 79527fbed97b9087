"""The operators of `topk.py`: what `torch.library` knows of them, and their gradients.

Each has a fake and an autograd formula whose backward is an operator again, so that `torch.compile`
sees one node either way. What runs inside is the path of the tensor's device (`paths.py`): a module
with the functions that `cpu.py` has.
"""

import torch
from torch import Tensor

from pellucid.kernels.autocast import operator
from pellucid.kernels.checks import check_groups
from pellucid.kernels.paths import serving


@operator("pellucid::topk_rows")
def topk_rows(x: Tensor, k: int, signed: bool, relu: bool) -> tuple[Tensor, Tensor]:
    """The checked `topk_rows` of `topk.py`."""
    return serving(x).topk_rows(x, k, signed, relu)


@operator("pellucid::topk_dropped")
def topk_dropped(x: Tensor, k: int, signed: bool) -> Tensor:
    """What the checked `keep_topk` of `topk.py` sets to 0."""
    return serving(x).topk_dropped(x, k, signed)


@operator("pellucid::topk_rows_backward")
def topk_rows_backward(grad: Tensor, indices: Tensor, width: int) -> Tensor:
    """Gradients of `topk_rows`."""
    return serving(grad).topk_rows_backward(grad, indices, width)


@operator("pellucid::encode_topk")
def encode_topk(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool, mode: str, products: str
) -> tuple[Tensor, Tensor]:
    """The checked `encode_topk` of `topk.py`."""
    check_groups("encode_topk", mode, k, len(w_enc))
    path = serving(x, products, len(w_enc), k)
    return path.encode_topk(x, w_enc, b_enc, k, signed, mode)


@operator("pellucid::encode_topk_backward")
def encode_topk_backward(
    grad: Tensor, indices: Tensor, x: Tensor, w_enc: Tensor, products: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `encode_topk`."""
    path = serving(grad, products, len(w_enc), indices.shape[1])
    return path.encode_topk_backward(grad, indices, x, w_enc)


@operator("pellucid::sparse_decode")
def sparse_decode(values: Tensor, indices: Tensor, w_dec: Tensor, products: str) -> Tensor:
    """The checked `sparse_decode` of `topk.py`."""
    path = serving(values, products, len(w_dec), indices.shape[1])
    return path.sparse_decode(values, indices, w_dec)


@operator("pellucid::sparse_decode_backward")
def sparse_decode_backward(
    grad: Tensor, values: Tensor, indices: Tensor, w_dec: Tensor, products: str
) -> tuple[Tensor, Tensor]:
    """Gradients of `sparse_decode`."""
    path = serving(grad, products, len(w_dec), indices.shape[1])
    return path.sparse_decode_backward(grad, values, indices, w_dec)


@operator("pellucid::sddmm")
def sddmm(x: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """The checked `sddmm` of `topk.py`."""
    return serving(x).sddmm(x, weight, indices)


@operator("pellucid::topk_mlp")
def topk_mlp(
    x: Tensor,
    w_enc: Tensor,
    b_enc: Tensor,
    w_dec: Tensor,
    k: int,
    signed: bool,
    mode: str,
    products: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """The checked `topk_mlp` of `topk.py`."""
    check_groups("topk_mlp", mode, k, len(w_enc))
    path = serving(x, products, len(w_enc), k)
    return path.topk_mlp(x, w_enc, b_enc, w_dec, k, signed, mode)


@operator("pellucid::topk_mlp_backward")
def topk_mlp_backward(
    grad: Tensor,
    values: Tensor,
    indices: Tensor,
    x: Tensor,
    w_enc: Tensor,
    w_dec: Tensor,
    products: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `topk_mlp`."""
    path = serving(grad, products, len(w_enc), indices.shape[1])
    return path.topk_mlp_backward(grad, values, indices, x, w_enc, w_dec)


def _fake_slots(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], k), x.new_empty(x.shape[0], k, dtype=torch.int32)


@topk_rows.register_fake
def _(x, k, signed, relu):
    return _fake_slots(x, k)


@topk_dropped.register_fake
def _(x, k, signed):
    return torch.empty_like(x, dtype=torch.bool)


@topk_rows_backward.register_fake
def _(grad, indices, width):
    return grad.new_empty(grad.shape[0], width)


@encode_topk.register_fake
def _(x, w_enc, b_enc, k, signed, mode, products):
    return _fake_slots(x, k)


@encode_topk_backward.register_fake
def _(grad, indices, x, w_enc, products):
    return x.new_empty(x.shape), w_enc.new_empty(w_enc.shape), w_enc.new_empty(w_enc.shape[0])


@sparse_decode.register_fake
def _(values, indices, w_dec, products):
    return w_dec.new_empty(values.shape[0], w_dec.shape[1])


@sparse_decode_backward.register_fake
def _(grad, values, indices, w_dec, products):
    return values.new_empty(values.shape), w_dec.new_empty(w_dec.shape)


@sddmm.register_fake
def _(x, weight, indices):
    return x.new_empty(indices.shape)


@topk_mlp.register_fake
def _(x, w_enc, b_enc, w_dec, k, signed, mode, products):
    return x.new_empty(x.shape[0], w_dec.shape[1]), *_fake_slots(x, k)


@topk_mlp_backward.register_fake
def _(grad, values, indices, x, w_enc, w_dec, products):
    encoder = (x.new_empty(x.shape), w_enc.new_empty(w_enc.shape), w_enc.new_empty(w_enc.shape[0]))
    return *encoder, w_dec.new_empty(w_dec.shape)


def _keep_topk_rows(ctx, inputs, output):
    ctx.save_for_backward(output[1])
    ctx.width = inputs[0].shape[1]


def _grad_topk_rows(ctx, grad, _):
    return topk_rows_backward(grad.contiguous(), *ctx.saved_tensors, ctx.width), None, None, None


def _keep_encode(ctx, inputs, output):
    ctx.save_for_backward(output[1], inputs[0], inputs[1])
    ctx.products = inputs[-1]


def _grad_encode(ctx, grad, _):
    saved = indices, _, w_enc = ctx.saved_tensors  # once: a recomputed pass has them no second time
    if not any(ctx.needs_input_grad[1:3]):
        # The decoder of the gradient: weights that are held cost nothing.
        return sparse_decode(grad.contiguous(), indices, w_enc, ctx.products), *[None] * 6
    made = encode_topk_backward(grad.contiguous(), *saved, ctx.products)
    return *made, None, None, None, None


def _keep_decode(ctx, inputs, output):
    *tensors, ctx.products = inputs
    ctx.save_for_backward(*tensors)


def _grad_decode(ctx, grad):
    saved = _, indices, w_dec = ctx.saved_tensors
    if not ctx.needs_input_grad[2] and ctx.products == "sparse":
        # The products at the slots: a weight that is held costs nothing.
        return sddmm(grad.contiguous(), w_dec, indices), None, None, None
    d_values, d_weight = sparse_decode_backward(grad.contiguous(), *saved, ctx.products)
    return d_values, None, d_weight, None


def _keep_sddmm(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _grad_sddmm(ctx, grad):
    x, weight, indices = ctx.saved_tensors
    # Those of an encoder that chose these units, but for its bias.
    args = grad.contiguous(), indices, x.contiguous(), weight, "sparse"
    return *encode_topk_backward(*args)[:2], None


def _keep_mlp(ctx, inputs, output):
    x, w_enc, _, w_dec, *_ = inputs
    _, values, indices = output
    ctx.mark_non_differentiable(values, indices)
    ctx.save_for_backward(values, indices, x, w_enc, w_dec)
    ctx.products = inputs[-1]


def _grad_mlp(ctx, grad, *_):
    made = topk_mlp_backward(grad.contiguous(), *ctx.saved_tensors, ctx.products)
    return *made, None, None, None, None


topk_rows.register_autograd(_grad_topk_rows, setup_context=_keep_topk_rows)
encode_topk.register_autograd(_grad_encode, setup_context=_keep_encode)
sparse_decode.register_autograd(_grad_decode, setup_context=_keep_decode)
sddmm.register_autograd(_grad_sddmm, setup_context=_keep_sddmm)
topk_mlp.register_autograd(_grad_mlp, setup_context=_keep_mlp)
