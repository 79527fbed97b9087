"""Strings, comments, words and marks, by the tokens; spelling and places, by the characters."""

import ast
import builtins
import keyword
import tokenize
from collections.abc import Callable
from types import BuiltinFunctionType

import numpy as np
from support.told.file import FUNCTIONS, Answers, Told


def _parts(string: str) -> tuple[str, str, str]:
    """The letters before a string token, its quotes, and what stands between them."""
    body = string.lstrip("rbufRBUF")
    quote = body[:3] if body[:3] in ("'" * 3, '"' * 3) else body[0]
    return string[: len(string) - len(body)].lower(), quote, body[len(quote) : -len(quote)]


def strings(told: Told) -> Answers:
    """Strings behind their first quote and before their last, by their quotes and letters."""
    column = {name: told.nothing() for name in _STRINGS}
    docs = _doc_starts(told)
    for token, (start, end) in zip(told.tokens, told.spans):
        if token.type != tokenize.STRING or told.formatted[start]:
            continue
        letters, quote, inside = _parts(token.string)
        first = start + len(letters)
        kinds = ["in_string", "quote_single" if quote[0] == "'" else "quote_double"]
        kinds += ["in_raw_string"] * ("r" in letters) + ["in_bytes"] * ("b" in letters)
        kinds += ["in_docstring"] * (start in docs)
        for name in kinds:
            column[name][first : end - 1] = True
            # So far two quotes are an empty string.
            column[name][first + 1] &= len(quote) == 1
        if len(quote) == 3:
            column["in_triple_string"][first + 2 : end - 1] = True
        if "r" not in letters:
            at = first + len(quote)
            while at < first + len(quote) + len(inside):
                backslash = told.text[at] == "\\"
                column["escaped"][at : at + 2] |= backslash
                at += 1 + backslash
    return {name: (there, ~told.formatted) for name, there in column.items()}


_STRINGS = (
    *("in_string", "quote_single", "quote_double", "in_triple_string", "in_raw_string"),
    *("in_bytes", "escaped", "in_docstring"),
)


def _doc_starts(told: Told) -> set[int]:
    """Where a file, a function or a class begins with a string, on a line of its own."""
    found = {told.begin(node) for node in told.tree.body[:1]}
    for node in told.nodes:
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)) and not told.on_header(node):
            found.add(told.begin(node.body[0]))
    return found


def lexical(told: Told) -> Answers:
    """Comments, numbers, words and marks."""
    marks = lambda inside: told.kind(
        lambda t: t.type == tokenize.OP and (t.string in "()[]{}") == inside
    )
    keywords = lambda t: t.type == tokenize.NAME and keyword.iskeyword(t.string)
    words = told.ends(s for t, s in zip(told.tokens, told.spans) if keywords(t))
    number = told.kind(lambda t: t.type == tokenize.NUMBER)
    # The dot before a number shows what it is only with the digit behind it.
    dots = _where(told, ".".__eq__)
    return {
        "in_comment": (told.kind(lambda t: t.type == tokenize.COMMENT), ~told.formatted),
        "in_number": (number, ~told.formatted & ~dots),
        "keyword": (words, told.code),
        "operator": (marks(False), told.code & ~number),
        "bracket_mark": (marks(True), told.code),
    }


def _where(told: Told, holds: Callable[[str], bool]) -> np.ndarray:
    return told.column((i, i + 1) for i, c in enumerate(told.text) if holds(c))


def spelling(told: Told) -> Answers:
    """What a name is by its spelling, at its last character; and capitals within words."""
    of = {name: [] for name in ("builtin_name", "self_name", "constant_case")}
    camel, open_names, dotted = [], [], []
    for before, token in zip(told.read, told.read[1:]):
        if before.text == ".":
            dotted.append((token.start, token.end))
    behind_dot = told.column(dotted)
    for token in told.read:
        if token.type != tokenize.NAME:
            continue
        word, span = token.text, (token.start, token.end)
        small = [i for i, c in enumerate(word) if "a" <= c <= "z"]
        humps = [i for i, c in enumerate(word) if "A" <= c <= "Z" and small and i > small[0]]
        camel += [(token.start + humps[0], token.end)] if humps else []
        capitals = all("A" <= c <= "Z" or c in "0123456789_" for c in word)
        of["constant_case"] += [span] * (len(word) > 1 and capitals and "A" <= word[0] <= "Z")
        if not behind_dot[token.start]:
            of["self_name"] += [span] * (word in ("self", "cls"))
            of["builtin_name"] += [span] * _is_builtin(word)
            open_names += [span] * (hasattr(builtins, word) and not _is_builtin(word))
    ends = {name: (told.ends(spans), told.name_end) for name, spans in of.items()}
    # Exceptions, constants and what `site` adds: not all of them are in every version.
    listed = told.name_end & ~told.ends(open_names)
    return ends | {
        "builtin_name": (ends["builtin_name"][0], listed),
        "camel_case": (told.column(camel), told.name),
    }


def _is_builtin(word: str) -> bool:
    """Whether a word is a function or a type of the builtins, exceptions aside."""
    found = getattr(builtins, word, None)
    if isinstance(found, type):
        return not issubclass(found, BaseException) and not word.startswith("_")
    return isinstance(found, BuiltinFunctionType) and not word.startswith("_")


def characters(told: Told) -> Answers:
    """What each character says by itself and by its place."""
    every = ~told.nothing()
    # With the newline that ends each line.
    far = told.column(
        (a + 40, max(a + 40, a + len(b) + 1)) for a, b in zip(told.starts, told.lines)
    )
    return {
        "in_word": (_where(told, lambda c: c.isalnum() or c == "_"), every),
        "column_40": (far, every),
        "near_start": (told.column([(0, 500)]), every),
    }
