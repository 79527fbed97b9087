"""What a word of Python says by its spelling alone, after each of its characters."""

import keyword
import re
from functools import lru_cache

from pellucid.eval.labels.bits import BIT

KEYWORDS = frozenset(keyword.kwlist)
BUILTINS = frozenset(
    "abs aiter all anext any ascii bin bool breakpoint bytearray bytes callable chr classmethod"
    " compile complex delattr dict dir divmod enumerate eval exec filter float format frozenset"
    " getattr globals hasattr hash help hex id input int isinstance issubclass iter len list locals"
    " map max memoryview min next object oct open ord pow print property range repr reversed round"
    " set setattr slice sorted staticmethod str sum super tuple type vars zip Exception"
    " ArithmeticError AssertionError AttributeError BaseException EOFError FileNotFoundError"
    " ImportError IndexError KeyError KeyboardInterrupt LookupError NameError NotImplementedError"
    " OSError OverflowError PermissionError RuntimeError StopIteration SyntaxError SystemExit"
    " TimeoutError TypeError UnicodeDecodeError UnicodeError ValueError Warning"
    " ZeroDivisionError".split()
)
"""The same under every version, so that labels are."""
CONSTANT = re.compile(r"[A-Z][A-Z0-9_]+")


@lru_cache(maxsize=1 << 16)
def spelling(word: str) -> tuple[tuple[str, int | None], ...]:
    """The word so far, after each character, and its bits; None where so far it is a keyword."""
    return tuple((word[:size], _so_far(word[:size])) for size in range(1, len(word) + 1))


@lru_cache(maxsize=1 << 16)
def dotted_spelling(word: str) -> tuple[int | None, ...]:
    """Of a word behind a dot: bits of what its case says so far; None where it is a keyword."""
    kept = BIT["constant_case"]
    return tuple(None if bits is None else bits & kept for _, bits in spelling(word))


def _so_far(word: str) -> int | None:
    if word in KEYWORDS:
        return None
    bits = BIT["builtin_name"] if word in BUILTINS else 0
    bits |= BIT["self_name"] if word in ("self", "cls") else 0
    return bits | (BIT["constant_case"] if CONSTANT.fullmatch(word) else 0)
