"""The operations under test by name, and a plain word where this version has none of that name.

A name may carry a mode: `encode_topk:groupmax` is `encode_topk(..., mode="groupmax")`.
"""

import inspect
from collections.abc import Callable
from functools import partial

from pellucid import kernels


class Missing(Exception):
    """An operation or a mode of it that this version of the package does not have."""


def get(name: str) -> Callable:
    """The public function of a name such as `topk_rows` or `encode_topk:fp8`; raises Missing."""
    base, _, mode = name.partition(":")
    found = getattr(kernels, base, None)
    if found is None:
        raise Missing(f"pellucid.kernels has no {base}")
    if not mode:
        return found
    if not takes(base, "mode"):
        raise Missing(f"{base} has no mode={mode!r}")
    return partial(found, mode=mode)


def missing(name: str) -> str:
    """Why there is no operation of that name; empty where there is."""
    try:
        get(name)
    except Missing as reason:
        return str(reason)
    return ""


def takes(name: str, argument: str) -> bool:
    """Whether the operation has an argument of that name."""
    return argument in inspect.signature(get(name)).parameters
