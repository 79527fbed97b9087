"""The blocks that a line stands in, by indentation."""

from dataclasses import dataclass
from functools import reduce
from operator import or_

from pellucid.eval.labels.bits import BIT
from pellucid.eval.labels.scopes import Names

LEVELS = tuple(BIT[f"level_{n}"] for n in ("0", "1", "2", "3", "4_or_more"))
KINDS = {
    "for": BIT["in_for"],
    "while": BIT["in_while"],
    **dict.fromkeys(("if", "elif"), BIT["in_if"]),
    "try": BIT["in_try"],
    **dict.fromkeys(("except", "finally"), BIT["in_except"]),
    "with": BIT["in_with"],
    **dict.fromkeys(("match", "case"), BIT["in_match"]),
}
HEADERS = frozenset((*KINDS, "def", "class", "else"))
SOFT = frozenset(("match", "case"))


@dataclass(frozen=True, slots=True)
class Block:
    """The lines below a header that stand further right than it."""

    indent: int
    """column of the header"""
    kind: str
    asynchronous: bool
    around: Names
    """the scope that its end returns to"""


def block_bits(blocks: list[Block]) -> int:
    """What holds in the innermost of these blocks because of all of them."""
    kinds = [block.kind for block in blocks]
    bits = LEVELS[min(len(blocks), 4)] | reduce(or_, (KINDS.get(kind, 0) for kind in kinds), 0)
    functions = [at for at, kind in enumerate(kinds) if kind == "def"]
    if functions and blocks[functions[-1]].asynchronous:
        bits |= BIT["in_async"]
    if functions and functions[-1] > 0 and kinds[functions[-1] - 1] == "class":
        bits |= BIT["in_method"]
    bits |= BIT["in_nested_function"] if len(functions) > 1 else 0
    loops = sum(kind in ("for", "while") for kind in kinds)
    return bits | (BIT["in_nested_loop"] if loops > 1 else 0)
