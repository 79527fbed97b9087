"""The operators under `torch.vmap`: what many models of one shape do at once, each its own weights.

Selections are one call over the rows of all models, and dense products one batched product.
Whatever gathers rows is called for one model after the other: on a GPU that is one launch each.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import CustomOpDef

from pellucid.kernels import operators
from pellucid.kernels.cpu import drop_inactive
from pellucid.kernels.dispatch import decide

Rule = Callable[..., tuple[Any, Any]]


def register() -> None:
    """Teach every operator what to do under `torch.vmap`; to be called once."""
    for op in (operators.topk_rows, operators.topk_rows_backward, operators.topk_dropped):
        op.register_vmap(_row_by_row(op))
    for op, batched in ((operators.topk_mlp, _topk_mlp), (operators.encode_topk, _encode_topk)):
        op.register_vmap(_or_batched(_one_by_one(op), batched))
    for op in (
        operators.encode_topk_backward,
        operators.sparse_decode,
        operators.sparse_decode_backward,
        operators.sddmm,
        operators.topk_mlp_backward,
    ):
        op.register_vmap(_one_by_one(op))


def _one_by_one(op: CustomOpDef) -> Rule:
    """Call the operator for each model, and stack what it returns."""

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        made = [op(*_of(index, in_dims, args)) for index in range(info.batch_size)]
        if isinstance(made[0], Tensor):
            return torch.stack(made), 0
        return tuple(torch.stack(parts) for parts in zip(*made, strict=True)), (0,) * len(made[0])

    return rule


def _of(index: int, in_dims: Sequence[int | None], args: Sequence[Any]) -> list[Any]:
    """One model's arguments."""
    return [
        arg if dim is None else arg.select(dim, index).contiguous()
        for arg, dim in zip(args, in_dims, strict=True)
    ]


def _row_by_row(op: CustomOpDef) -> Rule:
    """Call the operator once: each row is served by itself, whichever model it is of."""

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        stacked = _stacked(info.batch_size, in_dims, args)
        made = op(*(arg.flatten(0, 1) if isinstance(arg, Tensor) else arg for arg in stacked))
        if isinstance(made, Tensor):
            return made.unflatten(0, (info.batch_size, -1)), 0
        return tuple(part.unflatten(0, (info.batch_size, -1)) for part in made), (0,) * len(made)

    return rule


def _stacked(size: int, in_dims: Sequence[int | None], args: Sequence[Any]) -> list[Any]:
    """The arguments with the models first, also where all models share one."""
    return [
        arg
        if not isinstance(arg, Tensor)
        else arg.expand(size, *arg.shape)
        if dim is None
        else arg.movedim(dim, 0)
        for arg, dim in zip(args, in_dims, strict=True)
    ]


def _or_batched(alone: Rule, batched: Callable[..., tuple[Tensor, ...]]) -> Rule:
    """Dense products in one batched product, all else one model after the other."""

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        x, w_enc = args[:2]
        *_, k, signed, mode, products = args
        width = w_enc.shape[-2] if in_dims[1] is None else w_enc.movedim(in_dims[1], 0).shape[1]
        # A CPU rounds half precision once, after the selection; a GPU's products are as they are.
        rounded = x.device.type == "cpu" and x.dtype not in (torch.float32, torch.float64)
        if rounded or mode != "exact" or decide(products, x.device.type, width, k) == "sparse":
            return alone(info, in_dims, *args)
        made = batched(*_stacked(info.batch_size, in_dims, args)[:-4], k, signed)
        return made, (0,) * len(made)

    return rule


def _encode_topk(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, signed: bool
) -> tuple[Tensor, Tensor]:
    """The definition over stacked models, whose gradient is that of its parts."""
    pre = torch.baddbmm(b_enc[:, None], x, w_enc.mT)
    values, indices = operators.topk_rows(pre.flatten(0, 1), k, signed, not signed)
    if signed:  # a unit that is exactly 0 is inactive, and learns nothing
        values, indices = drop_inactive(values, indices)
        values = values.masked_fill(indices < 0, 0.0)
    return values.unflatten(0, x.shape[:2]), indices.unflatten(0, x.shape[:2])


def _topk_mlp(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor, k: int, signed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    values, indices = _encode_topk(x, w_enc, b_enc, k, signed)
    hidden = values.new_zeros(*x.shape[:2], w_enc.shape[1])
    hidden = hidden.scatter_add(2, indices.long().clamp(min=0), values)
    return torch.bmm(hidden, w_dec), values.detach(), indices
