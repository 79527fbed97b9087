"""The pieces of Python in held-out documents that stand alone."""

import ast
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Snippet:
    """A definition that parses by itself."""

    document: int
    text: str


def parsed(text: str) -> ast.Module | None:
    """The syntax tree of a text, or None where it is not Python."""
    try:
        with warnings.catch_warnings():
            # Old files hold escapes that Python now warns of; that is their business.
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def snippets(texts: Sequence[str], *, longest: int, seed: int) -> list[Snippet]:
    """Definitions of at most `longest` characters, dedented, in a seeded order."""
    found = [
        Snippet(i, text) for i, document in enumerate(texts) for text in _definitions(document)
    ]
    short = [snippet for snippet in found if len(snippet.text) <= longest]
    return [short[i] for i in np.random.default_rng(seed).permutation(len(short))]


def _definitions(document: str) -> Iterator[str]:
    tree = parsed(document)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, Definition):
            lines = document.split("\n")[node.lineno - 1 : node.end_lineno]
            text = textwrap.dedent("\n".join(lines)) + "\n"
            if parsed(text):
                yield text
