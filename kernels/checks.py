"""What the operations refuse: one `ValueError` sentence with the value and what is accepted."""

import os

import torch
from torch import Tensor

from pellucid.kernels.modes import MODES, group_count

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_tensors(op: str, **named: tuple[Tensor, int]) -> None:
    """Each `name=(tensor, dimensions)`: float, of one dtype and on one device."""
    first = next(iter(named))
    example = named[first][0]
    for name, (tensor, dimensions) in named.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
        if tensor.dtype not in FLOATS:
            raise ValueError(
                f"{op}: {name} must be float16, bfloat16, float32 or float64, got {tensor.dtype}"
            )
        if tensor.dim() != dimensions:
            raise ValueError(
                f"{op}: {name} must have {dimensions} dimension(s), got shape {tuple(tensor.shape)}"
            )
        if tensor.dtype != example.dtype:
            raise ValueError(
                f"{op}: {name} must have the dtype of {first}, {example.dtype}, got {tensor.dtype}"
            )
        if tensor.device != example.device:
            raise ValueError(
                f"{op}: {name} must be on the device of {first}, {example.device}, "
                f"got {tensor.device}"
            )


def check_k(op: str, k: int, width: int) -> None:
    """k is a whole number of slots in 1..width."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= width:
        raise ValueError(f"{op}: k must be an int between 1 and the width {width}, got {k!r}")


def check_signs(op: str, signed: bool, relu: bool) -> None:
    """An order by magnitude, or the positive part: not both."""
    if signed and relu:
        raise ValueError(
            f"{op}: relu keeps the positive part and signed ranks by magnitude, "
            "got both True: set one of them"
        )


def check_mode(op: str, mode: str) -> None:
    """mode is one of `modes.MODES`."""
    if mode not in MODES:
        raise ValueError(f"{op}: mode must be one of {', '.join(MODES)}, got {mode!r}")


def check_groups(op: str, mode: str, k: int, width: int) -> None:
    """`groupmax` has k groups to choose from; called where sizes are numbers, not symbols."""
    if mode == "groupmax" and k > (groups := group_count(width, k)):
        raise ValueError(
            f"{op}: mode groupmax takes one unit a group, so k must be at most {groups}, the groups "
            f"of width {width}, got {k}"
        )


def check_encode(op: str, x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int, mode: str) -> None:
    """x (rows d), w_enc (width d), b_enc (width)."""
    check_tensors(op, x=(x, 2), w_enc=(w_enc, 2), b_enc=(b_enc, 1))
    if x.shape[1] != w_enc.shape[1]:
        raise ValueError(
            f"{op}: x must have the {w_enc.shape[1]} columns of w_enc, got {x.shape[1]}"
        )
    if b_enc.shape[0] != w_enc.shape[0]:
        raise ValueError(
            f"{op}: b_enc must have one entry per unit of w_enc, {w_enc.shape[0]}, "
            f"got {b_enc.shape[0]}"
        )
    check_k(op, k, w_enc.shape[0])
    check_mode(op, mode)


def check_slots(op: str, values: Tensor, indices: Tensor, w_dec: Tensor) -> None:
    """values and indices (rows k), w_dec (width d); the range of indices is the kernel's to check."""
    check_tensors(op, values=(values, 2), w_dec=(w_dec, 2))
    check_indices(op, indices, "values", values)
    if indices.shape != values.shape:
        raise ValueError(
            f"{op}: indices must have the shape of values, {tuple(values.shape)}, "
            f"got {tuple(indices.shape)}"
        )


def check_sddmm(op: str, x: Tensor, weight: Tensor, indices: Tensor) -> None:
    """x (rows d), weight (width d), indices (rows k)."""
    check_tensors(op, x=(x, 2), weight=(weight, 2))
    check_indices(op, indices, "x", x)
    if x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"{op}: x must have the {weight.shape[1]} columns of weight, got {x.shape[1]}"
        )
    if indices.dim() != 2 or len(indices) != len(x):
        raise ValueError(
            f"{op}: indices must have the {len(x)} rows of x, got shape {tuple(indices.shape)}"
        )


def check_indices(op: str, indices: Tensor, name: str, other: Tensor) -> None:
    """int32, on the device of the tensor called `name`."""
    if not isinstance(indices, Tensor):
        raise ValueError(f"{op}: indices must be a tensor, got {type(indices).__name__}")
    if indices.dtype != torch.int32:
        raise ValueError(f"{op}: indices must be int32, got {indices.dtype}")
    if indices.device != other.device:
        raise ValueError(
            f"{op}: indices must be on the device of {name}, {other.device}, got {indices.device}"
        )


def check_range(op: str, indices: Tensor, width: int) -> None:
    """Indices lie in -1..width - 1.

    To know it waits for the device, so that on a GPU it is left out unless PELLUCID_DEBUG is set.
    """
    if indices.is_meta or (indices.is_cuda and not os.environ.get("PELLUCID_DEBUG")):
        return
    if indices.numel() and not -1 <= int(indices.min()) <= int(indices.max()) < width:
        raise ValueError(
            f"{op}: indices must lie between -1 and {width - 1} (the width less one), "
            f"got {int(indices.min())} to {int(indices.max())}"
        )
