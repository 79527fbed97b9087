"""The operations under test by name, and a plain word where this version has none of that name.

A name may carry a mode: `encode_topk:groupmax` is `encode_topk(..., mode="groupmax")`.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

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
    if "mode" not in inspect.signature(found).parameters:
        raise Missing(f"{base} has no mode={mode!r}")
    return partial(found, mode=mode)


def missing(name: str) -> str:
    """Why there is no operation of that name; empty where there is."""
    try:
        get(name)
    except Missing as reason:
        return str(reason)
    return ""


def named(name: str, pool: Mapping[str, Any]) -> Callable:
    """The operation with the arguments that its signature names, out of a pool; raises Missing."""
    function = get(name)
    parameters = inspect.signature(function).parameters.values()
    unknown = [p.name for p in parameters if p.default is p.empty and p.name not in pool]
    if unknown:
        raise Missing(f"{name} takes {', '.join(unknown)}, which is not measured here")
    return partial(function, **{p.name: pool[p.name] for p in parameters if p.name in pool})
