"""Pellucid trains transformers that are interpretable by construction, and tests if they are."""

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {"Config": ("pellucid.config", "RunConfig"), "load": ("pellucid.run", "load")}
__all__ = ["Config", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # On first use: `import pellucid` stays quick, and its parts may import each other.
    if name not in _LAZY:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)
