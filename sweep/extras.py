"""Libraries that come with an extra: what needs them says so in a sentence."""

import importlib
from types import ModuleType

from pellucid.errors import UserError


def required(module: str, extra: str | None = None) -> ModuleType:
    """The library of an extra (by default of its own name); UserError where it is not installed."""
    extra = extra or module
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise UserError(
            f"--engine {extra} needs {module}: pip install 'pellucid[{extra}]'"
        ) from None
