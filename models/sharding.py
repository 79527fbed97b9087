"""Tensors that may be sharded over processes (FSDP2), read and written as if they were whole."""

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor's full value, gathered where it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """A full tensor in the place, type and sharding of a parameter."""
    value = value.to(device=parameter.device, dtype=parameter.dtype).clone()
    if isinstance(parameter, DTensor):
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)
    return value


@torch.no_grad()
def set_rows(tensor: Tensor, rows: Tensor, values: Tensor) -> None:
    """`tensor[rows] = values`, also where the tensor is sharded."""
    if not isinstance(tensor, DTensor):
        tensor[rows] = values
        return
    full = tensor.full_tensor()
    full[rows] = values
    tensor.copy_(distribute_tensor(full, tensor.device_mesh, tensor.placements))
