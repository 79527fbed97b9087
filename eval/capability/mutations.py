"""Ways to break a piece of Python: each gives a text one mistake away from the one given.

Every mistake but one makes the text impossible to parse; `undefined_name` reads a name that nothing
binds. What was broken is checked with the parser, not assumed.
"""

import ast
import builtins
import io
import keyword
import tokenize
from collections.abc import Callable, Sequence
from itertools import pairwise
from token import DEDENT, INDENT, NAME, NEWLINE, OP

import numpy as np

Tokens = list[tokenize.TokenInfo]
CLOSERS = ")]}"
SWAPPED = {("not", "in"): "in not", ("is", "not"): "not is", ("yield", "from"): "from yield"}


def wrong_closer(tokens: Tokens, rng: np.random.Generator) -> list[tuple[int, int, str]] | None:
    """A closing bracket of another kind."""
    at = _pick([t for t in tokens if t.type == OP and t.string in CLOSERS], rng)
    if at is None:
        return None
    others = [closer for closer in CLOSERS if closer != at.string]
    return [(*_span(at), others[rng.integers(2)])]


def equals_for_comparison(tokens: Tokens, rng: np.random.Generator) -> list | None:
    """`=` where the header of a statement compares with `==`."""
    headers = [
        t for t in tokens if t.string == "==" and t.line.lstrip().startswith(("if", "while"))
    ]
    at = _pick(headers or [t for t in tokens if t.string == "=="], rng)
    return at and [(*_span(at), "=")]


def missing_colon(tokens: Tokens, rng: np.random.Generator) -> list | None:
    """No colon at the end of the header of a block."""
    ends = [t for t, after in pairwise(tokens) if t.string == ":" and after.type == NEWLINE]
    at = _pick(ends, rng)
    return at and [(*_span(at), "")]


def wrong_indent(tokens: Tokens, rng: np.random.Generator) -> list | None:
    """A line that is indented further though no block begins."""
    firsts = [
        token
        for i, (before, token) in enumerate(pairwise(tokens))
        if before.type == NEWLINE and token.type not in (INDENT, DEDENT) and token.string.strip()
        if i > 0 and tokens[i - 1].string != ":"
    ]
    at = _pick([t for t in firsts if t.type in (NAME, OP)], rng)
    return at and [(at.start, at.start, "    ")]


def keyword_order(tokens: Tokens, rng: np.random.Generator) -> list | None:
    """Two keywords in the wrong order: `in not`, `not is`, `in x for y`."""
    pairs = [
        (a, b, SWAPPED[a.string, b.string])
        for a, b in pairwise(tokens)
        if (a.string, b.string) in SWAPPED
    ]
    loops = [
        (a, c, f"in {b.string} for")
        for a, b, c in zip(tokens, tokens[1:], tokens[2:])
        if a.string == "for" and b.type == NAME and c.string == "in"
    ]
    found = _pick(pairs + loops, rng)
    return found and [(found[0].start, found[1].end, found[2])]


MISTAKES: dict[str, Callable[[Tokens, np.random.Generator], list | None]] = {
    "wrong_closer": wrong_closer,
    "equals_for_comparison": equals_for_comparison,
    "missing_colon": missing_colon,
    "wrong_indent": wrong_indent,
    "keyword_order": keyword_order,
}
"""Those that no parser accepts."""

KINDS = (*MISTAKES, "undefined_name")


def broken(text: str, kind: str, rng: np.random.Generator, names: Sequence[str]) -> str | None:
    """The text with a mistake of a kind, or None where it has no place for one.

    `text` must parse. `names` are identifiers from elsewhere, of which one may be put in.
    """
    if kind == "undefined_name":
        return _undefined(text, rng, names)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    edits = MISTAKES[kind]([t for t in tokens if t.string or t.type in (INDENT, DEDENT)], rng)
    changed = edits and _edited(text, edits)
    return changed if changed and not parses(changed) else None


def parses(text: str) -> bool:
    """Whether this Python's parser accepts the text."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def bound_names(tree: ast.AST) -> set[str]:
    """Every name that the code binds anywhere, whatever the scope."""
    bound = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                bound.add(name)
            case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                bound.add(name)
            case ast.ClassDef(name=name) | ast.MatchAs(name=str(name)):
                bound.add(name)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                bound.add(asname or name.split(".")[0])
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                bound.update(names)
    return bound


def loaded_names(tree: ast.AST) -> list[ast.Name]:
    """Every place where a name is read."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return [node for node in names if isinstance(node.ctx, ast.Load)]


def undefined(tree: ast.AST) -> list[str]:
    """Names that are read though the code binds them nowhere and Python does not bring them."""
    known = bound_names(tree) | set(dir(builtins)) | {"__file__", "__class__"}
    return [node.id for node in loaded_names(tree) if node.id not in known]


def _undefined(text: str, rng: np.random.Generator, names: Sequence[str]) -> str | None:
    """A name that is bound where it is read becomes one that is not."""
    tree = ast.parse(text)
    bound, present = bound_names(tree), set(text.split()) | {n.id for n in loaded_names(tree)}
    places = [
        node for node in loaded_names(tree) if node.id in bound and node.lineno == node.end_lineno
    ]
    free = [
        name
        for name in names
        if name not in bound | present and not keyword.iskeyword(name)
        if not hasattr(builtins, name)
    ]
    place = _pick(places, rng)
    if place is None or not free:
        return None
    # Columns of a syntax tree count bytes, those of a text characters.
    lines = text.split("\n")
    column = len(lines[place.lineno - 1].encode()[: place.col_offset].decode())
    start = (place.lineno, column)
    end = (place.lineno, column + len(place.id))
    changed = _edited(text, [(start, end, free[rng.integers(len(free))])])
    return changed if parses(changed) and undefined(ast.parse(changed)) else None


def _edited(text: str, edits: list[tuple[tuple[int, int], tuple[int, int], str]]) -> str:
    starts = np.cumsum([0, *(len(line) + 1 for line in text.split("\n"))])
    at = lambda place: int(starts[place[0] - 1]) + place[1]
    for start, end, new in edits:
        text = text[: at(start)] + new + text[at(end) :]
    return text


def _span(token: tokenize.TokenInfo) -> tuple[tuple[int, int], tuple[int, int]]:
    return token.start, token.end


def _pick(candidates: Sequence, rng: np.random.Generator):
    return candidates[rng.integers(len(candidates))] if candidates else None
