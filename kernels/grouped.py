"""Products of rows that are grouped, each group with a matrix of its own (experts)."""

import torch
from torch import Tensor

from pellucid.kernels.autocast import cast, operator
from pellucid.kernels.checks import check_tensors


def grouped_products(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """`x[start:end] @ weight[group]` for each group of rows: (rows d), (groups d out) give (rows out).

    Rows stand group by group; `ends` (groups), int64, says where each group ends, the last one with
    the last row. Groups may be empty. One library product for each group, so that a row's last bits
    depend on how many rows its group has. Differentiable in x and weight. ValueError for shapes,
    dtypes or devices that do not agree.
    """
    x, weight = cast(x, weight)
    check_tensors("grouped_products", x=(x, 2), weight=(weight, 3))
    if ends.shape != weight.shape[:1] or ends.dtype != torch.int64 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"grouped_products: expected an int64 end for each of {len(weight)} groups and rows of "
            f"{weight.shape[1]} channels, got ends {ends.dtype} {tuple(ends.shape)} and rows of "
            f"{x.shape[1]}"
        )
    return _products(x, weight, ends)


@operator("pellucid::grouped_products")
def _products(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """The checked `grouped_products`."""
    y = x.new_empty(len(x), weight.shape[2])
    for rows, matrix, out in zip(_groups(x, ends), weight, _groups(y, ends), strict=True):
        torch.mm(rows, matrix, out=out)
    return y


@operator("pellucid::grouped_outer")
def grouped_outer(x: Tensor, y: Tensor, ends: Tensor) -> Tensor:
    """`x[start:end]ᵀ @ y[start:end]` for each group; 0 for an empty one."""
    found = x.new_empty(len(ends), x.shape[1], y.shape[1])
    for a, b, out in zip(_groups(x, ends), _groups(y, ends), found, strict=True):
        torch.mm(a.mT, b, out=out)
    return found


def _groups(rows: Tensor, ends: Tensor) -> tuple[Tensor, ...]:
    """The rows of each group; waits for a GPU once, because the groups' sizes are data."""
    return rows.tensor_split(ends[:-1].cpu())


@_products.register_fake
def _(x, weight, ends):
    return x.new_empty(x.shape[0], weight.shape[2])


@grouped_outer.register_fake
def _(x, y, ends):
    return x.new_empty(ends.shape[0], x.shape[1], y.shape[1])


def _backward(ctx, grad):
    x, weight, ends = ctx.saved_tensors
    grad = grad.contiguous()
    d_x = _products(grad, weight.mT, ends) if ctx.needs_input_grad[0] else None
    d_weight = grouped_outer(x, grad, ends) if ctx.needs_input_grad[1] else None
    return d_x, d_weight, None


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


_products.register_autograd(_backward, setup_context=_save)
