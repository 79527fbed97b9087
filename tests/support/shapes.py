"""Check every jaxtyping signature of a package while its tests run.

jaxtyping's own hook checks all functions and dataclasses, and what it adds cannot be compiled. Here
only functions with a shape in their signature are checked, and not while they are being compiled.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import beartype
import jaxtyping
import torch

_jaxtyped = jaxtyping.jaxtyped


def has_shape(annotation: Any) -> bool:
    """Whether `Float[Tensor, "batch d"]` or the like occurs in an annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(has_shape(part) for part in typing.get_args(annotation))


def checked(function: Callable) -> Callable:
    """The function, its shapes checked on every call that is not a compilation."""
    annotations = getattr(function, "__annotations__", {})
    if inspect.isclass(function) or not any(map(has_shape, annotations.values())):
        return function
    strict = _jaxtyped(function, typechecker=beartype.beartype)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        compiling = torch.compiler.is_compiling()
        return function(*args, **kwargs) if compiling else strict(*args, **kwargs)

    return call


def check_shapes(package: str) -> None:
    """Have a package's functions checked; call it before the package is imported."""
    jaxtyping.jaxtyped = lambda function=None, **_: checked(function) if function else checked
    jaxtyping.install_import_hook(package, None)
