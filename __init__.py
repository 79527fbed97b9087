"""Pellucid trains transformers that are interpretable by construction, and tests if they are."""

import importlib
import os
from typing import Any

# Read when torch is first imported. Threads that spin at a barrier lose their turn to any other
# program: with one busy core of two, a step of `tiny` took 3 to 6 s, with sleeping threads 0.3 s.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_LAZY = {"Config": ("pellucid.config", "RunConfig"), "load": ("pellucid.run", "load")}
__all__ = ["Config", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # On first use: `import pellucid` stays quick, and its parts may import each other.
    if name not in _LAZY:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)
