"""How many threads numpy computes with: its OpenBLAS has its own, whatever torch is given.

What it divides among threads is rounded otherwise than by one thread, in the last bits.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from importlib import import_module

NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)
"""What it is called in numpy's wheels, and in libraries of the system's."""


def threads() -> int | None:
    """How many it computes with now; None where numpy computes with another library."""
    found = _functions()
    return None if found is None else found[0]()


def at_most(number: int) -> None:
    """Have it compute with no more than so many."""
    now = threads()
    if now is not None and now > number:
        give(number)


def give(number: int | None) -> None:
    """Have it compute with as many as `threads` once said."""
    if number is not None and (found := _functions()) is not None:
        found[1](number)


@cache
def _functions() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Those that say and set the number, found by way of the module that needs the library."""
    try:
        library = ctypes.CDLL(import_module("numpy._core._multiarray_umath").__file__)
    except (ImportError, OSError, TypeError):
        return None
    for name in NAMES:
        if hasattr(library, name.format("set")) and hasattr(library, name.format("get")):
            return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None
