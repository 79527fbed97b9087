"""What Python's parser says of every character of a file: labels that need what comes later."""

import ast
import re
import warnings

import numpy as np
from jaxtyping import Bool

from pellucid.eval.labels.catalogue import PARSED

CONTEXTS = {ast.Load: "load", ast.Store: "store"}
TOLD = (
    *(ast.Name, ast.Call, ast.keyword, ast.Compare, ast.Dict, ast.DictComp),
    *(ast.Assign, ast.AugAssign, ast.AnnAssign),
)
"""Nodes that labels come from."""
Columns = dict[str, Bool[np.ndarray, " character"]]


class _Places:
    """Lines and columns in UTF-8 bytes, as places in characters."""

    def __init__(self, text: str) -> None:
        # The parser ends lines at these alone; `splitlines` would at more.
        ends = [match.end() for match in re.finditer(r"\r\n|\r|\n", text)]
        self.starts = [0, *ends]
        bounds = [*ends, len(text)]
        self.raw = [
            None if (line := text[a:b]).isascii() else line.encode()
            for a, b in zip(self.starts, bounds)
        ]

    def at(self, line: int, column: int) -> int:
        raw = self.raw[line - 1]
        size = column if raw is None else len(raw[:column].decode())
        return self.starts[line - 1] + size

    def of(self, node: ast.AST) -> slice:
        first = self.at(node.lineno, node.col_offset)
        return slice(first, self.at(node.end_lineno, node.end_col_offset))


def parse(text: str) -> ast.Module | None:
    """The tree of a file, or None where this version of Python refuses it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def parsed_columns(text: str) -> Columns:
    """Columns of the labels of the parser; none where the file does not parse.

    Names within f-strings are left out: not every version of Python says where they stand.
    """
    tree = parse(text)
    # The parser leaves a byte order mark out of its columns.
    if tree is None or text.startswith("\ufeff"):
        return {}
    places = _Places(text)
    columns = {name: np.zeros(len(text), bool) for names in PARSED.values() for name in names}
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.JoinedStr):
            continue
        if isinstance(node, TOLD):
            _tell(node, places, columns)
        for value in vars(node).values():
            if isinstance(value, list):
                waiting += [child for child in value if isinstance(child, ast.AST)]
            elif isinstance(value, ast.AST):
                waiting.append(value)
    return columns


def _tell(node: ast.AST, places: _Places, columns: Columns) -> None:
    match node:
        case ast.Name():
            name = CONTEXTS.get(type(node.ctx))
            if name:
                columns[name][places.of(node)] = True
        case ast.Call():
            columns["callee"][places.of(node.func)] = True
        case ast.keyword(arg=str(name)):
            first = places.at(node.lineno, node.col_offset)
            columns["keyword_name"][first : first + len(name)] = True
        case ast.Assign():
            for target in node.targets:
                columns["left_side"][places.of(target)] = True
        case ast.AugAssign() | ast.AnnAssign():
            columns["left_side"][places.of(node.target)] = True
        case ast.Compare():
            columns["in_comparison"][places.of(node)] = True
        case ast.Dict() | ast.DictComp():
            columns["dict_ahead"][places.of(node)] = True
