"""What the projection of weights refuses, each in one sentence: the value and what is accepted."""

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pellucid.kernels.checks import FLOATS

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

OP = "weight_topk_"
SCOPES = ("matrix", "row", "column")

ROUNDING = 1e-6
"""A density times a size that misses a whole number by less is meant as that number."""


def check_weights(weights: Any, scope: str) -> list[Tensor]:
    """Different float tensors of one device that may be written to, and a scope there is."""
    if scope not in SCOPES:
        raise ValueError(f"{OP}: scope must be 'matrix', 'row' or 'column', got {scope!r}")
    if not isinstance(weights, Tensor | Iterable):
        raise ValueError(
            f"{OP}: weights must be a tensor or a sequence of them, got {type(weights).__name__}"
        )
    tensors = [weights] if isinstance(weights, Tensor) else list(weights)
    for index, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"{OP}: weights[{index}] must be a tensor, got {type(tensor).__name__}"
            )
        problem = _problem(tensor, tensors[0], scope)
        if problem:
            raise ValueError(f"{OP}: weights[{index}] must {problem}")
    if len({id(tensor) for tensor in tensors}) < len(tensors):
        raise ValueError(f"{OP}: weights must be different tensors, got one of them twice")
    return tensors


def _problem(tensor: Tensor, first: Tensor, scope: str) -> str:
    """What a tensor must be that it is not; empty where all is well."""
    checks = {
        f"be float16, bfloat16, float32 or float64, got {tensor.dtype}": tensor.dtype not in FLOATS,
        f"be on the device of weights[0], {first.device}, got {tensor.device}": tensor.device
        != first.device,
        f"have entries, got shape {tuple(tensor.shape)}": 0 in tensor.shape,
        f"have 2 dimensions with scope {scope!r}, got shape {tuple(tensor.shape)}": scope
        != "matrix"
        and tensor.dim() != 2,
        "be a parameter or carry no gradient, got the result of an operation: "
        "pass tensor.detach() to change its memory": tensor.requires_grad and not tensor.is_leaf,
        "be replicated, or sharded on dimension 0 over one mesh dimension, got placements "
        f"{getattr(tensor, 'placements', ())}": not _is_placed(tensor),
        f"have memory for each entry, got an expanded tensor of strides {tensor.stride()}": any(
            size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride())
        ),
    }
    return next((sentence for sentence, failed in checks.items() if failed), "")


def is_spread(tensor: Tensor) -> bool:
    """Whether it is a DTensor; there is none before its module was loaded, which takes a second."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def shard_axis(tensor: "DTensor") -> int | None:
    """The mesh dimension that the rows of a tensor are spread over; None where all have all rows."""
    axes = [axis for axis, how in enumerate(tensor.placements) if not how.is_replicate()]
    return axes[0] if axes else None


def _is_placed(tensor: Tensor) -> bool:
    if not is_spread(tensor):
        return True
    spread = [how for how in tensor.placements if not how.is_replicate()]
    # Partial sums, and rows dealt out in another order, are no such shards.
    return not spread or (len(spread) == 1 and spread[0].is_shard(dim=0))


def one_for_each(name: str, amount: Any, tensors: Sequence[Tensor]) -> list[Any]:
    """One number for each tensor, of a number for all or of a sequence."""
    if not isinstance(amount, Sequence) or isinstance(amount, str):
        return [amount] * len(tensors)
    if len(amount) != len(tensors):
        raise ValueError(
            f"{OP}: {name} must be one number or {len(tensors)}, one for each tensor, "
            f"got {len(amount)}"
        )
    return list(amount)


def kept_entries(tensor: Tensor, keep: Any, per_row: Any, per_column: Any) -> int:
    """Entries that a tensor keeps, after checking its guards."""
    for name, guard, axis in (("per_row", per_row, 1), ("per_column", per_column, 0)):
        if not _is_whole(guard) or guard < 0:
            raise ValueError(f"{OP}: {name} must be an int of 0 or more, got {guard!r}")
        if guard and tensor.dim() != 2:
            raise ValueError(
                f"{OP}: {name} needs tensors of 2 dimensions, got shape {tuple(tensor.shape)}"
            )
        if guard and guard > tensor.shape[axis]:
            raise ValueError(
                f"{OP}: {name} must be at most the {tensor.shape[axis]} entries that a "
                f"{name[4:]} of shape {tuple(tensor.shape)} has, got {guard}"
            )
    return whole_number(keep, tensor.numel(), "tensor")


def kept_per_line(tensor: Tensor, keep: Any, scope: str) -> int:
    """Entries that each row or column of a matrix keeps."""
    return whole_number(keep, tensor.shape[1 if scope == "row" else 0], scope)


def whole_number(keep: Any, n: int, what: str) -> int:
    """A number of entries in 1..n as it is, a density in (0, 1] as ⌊keep n⌋, at least 1."""
    if isinstance(keep, float) and 0 < keep <= 1:
        return max(1, math.floor(keep * n + ROUNDING))
    if _is_whole(keep) and 1 <= keep <= n:
        return keep
    raise ValueError(
        f"{OP}: keep must be a number of entries (int) between 1 and the {n} of a {what}, "
        f"or a density (float) above 0 and at most 1, got {keep!r}"
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
