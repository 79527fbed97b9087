"""Which code serves the operations on which kind of device; said in words, and never in silence."""

import functools
import importlib
import importlib.util
import warnings
from types import ModuleType

import torch
from torch import Tensor

from pellucid.kernels.dispatch import decide

PATHS = {
    "cpu": ("pellucid.kernels.cpu", "library calls"),
    "cuda": ("pellucid.kernels.gpu.path", "Triton kernels"),
}
"""By type of device: a module with the functions of `cpu.py`, and its name in words."""

FALLBACK = ("pellucid.kernels.dense", "dense products (no kernel for this device)")

DENSE = {"cuda": "pellucid.kernels.gpu.multiplied"}
"""Where dense products have a module of their own; elsewhere they are the fallback's."""


def path(device: torch.device | str) -> str:
    """The code that runs on `device`, in a few words to be said once when a run starts.

    ValueError for what torch knows as no device.
    """
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"path: device must be a torch.device or its name, such as 'cuda', got {device!r}"
        ) from error
    return f"{kind}: {_path(kind)[1]}"


def serving(tensor: Tensor, products: str = "sparse", width: int = 0, k: int = 1) -> ModuleType:
    """The module whose functions serve an operation on this tensor.

    For the layers, `products` (or `dispatch.py`, by width and k) chooses between the device's path
    and dense products.
    """
    kind = tensor.device.type
    module, name = _path(kind)
    if module == FALLBACK[0]:
        say_once(f"pellucid.kernels, {kind}: {name}")
    elif decide(products, kind, width, k) == "dense":
        module = DENSE.get(kind, FALLBACK[0])
    return _load(module)


def _path(kind: str) -> tuple[str, str]:
    found = PATHS.get(kind, FALLBACK)
    return found if kind != "cuda" or _has_triton() else FALLBACK


@functools.cache
def _load(module: str) -> ModuleType:
    return importlib.import_module(module)


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def say_once(message: str) -> None:
    """Warn of something the first time it happens."""
    warnings.warn(message, stacklevel=2)
