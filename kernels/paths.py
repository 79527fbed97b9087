"""Which code serves the operations on which kind of device; said in words, and never in silence."""

import functools
import importlib
import importlib.util
import warnings
from types import ModuleType

import torch
from torch import Tensor

PATHS = {
    "cpu": ("pellucid.kernels.cpu", "library calls"),
    "cuda": ("pellucid.kernels.gpu.path", "Triton kernels"),
}
"""By type of device: a module with the functions of `cpu.py`, and its name in words."""

FALLBACK = ("pellucid.kernels.dense", "dense products (no kernel for this device)")


def path(device: torch.device | str) -> str:
    """The code that runs on `device`, in a few words to be said once when a run starts."""
    kind = torch.device(device).type
    return f"{kind}: {_path(kind)[1]}"


def serving(tensor: Tensor) -> ModuleType:
    """The module whose functions serve an operation on this tensor."""
    module, name = _path(tensor.device.type)
    if module == FALLBACK[0]:
        _say_once(f"pellucid.kernels, {tensor.device.type}: {name}")
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
def _say_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)
