"""Autocast and the operations: inputs are cast as a linear layer's are, and nothing inside is.

Sums stay in float32 or wider, and a backward pass that is run within autocast gives the bits of one
that is run after it, as PyTorch recommends.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.library import CustomOpDef, custom_op

HALVED = (torch.float32, torch.float16, torch.bfloat16)
"""What autocast casts; float64 stays."""


def cast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Under autocast, what autocast does to the inputs of a linear layer."""
    if not all(isinstance(t, Tensor) for t in tensors):
        return tensors  # the checks, which come next, say so
    kind = tensors[0].device.type
    if not is_on(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(t.to(dtype) if t.dtype in HALVED else t for t in tensors)


def is_on(kind: str) -> bool:
    """Whether autocast is on for this type of device; `meta` and others have none."""
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def operator(name: str) -> Callable[[Callable], CustomOpDef]:
    """`custom_op` for a function of a tensor and more that changes none, run without autocast."""

    def make(function: Callable) -> CustomOpDef:
        @functools.wraps(function)
        def plain(first: Tensor, *rest):
            if not is_on(first.device.type):
                return function(first, *rest)
            with torch.autocast(first.device.type, enabled=False):
                return function(first, *rest)

        return custom_op(name, plain, mutates_args=())

    return make
