"""Brackets: how many are open, which is the innermost, and what it is for."""

import ast
import tokenize

import numpy as np
from support.told.file import OPENS, Answers, Told

KINDS = ("in_call", "in_subscript", "in_list", "in_grouping")


def brackets(told: Told) -> Answers:
    """How many brackets are open, exactly and at least, and of which kind."""
    depth, inner = _open(told)
    exact = {"depth_1": depth == 1, "depth_2": depth == 2, "depth_3": depth == 3}
    exact |= {
        "depth_4_or_more": depth > 3,
        "in_brackets": depth > 0,
        "in_nested_brackets": depth > 1,
    }
    which = {"in_round": "(", "in_square": "[", "in_curly": "{"}
    exact |= {name: inner == mark for name, mark in which.items()}
    return {name: (column, ~told.formatted) for name, column in exact.items()}


def _open(told: Told) -> tuple[np.ndarray, np.ndarray]:
    """How many brackets are open after each character, and which is the innermost."""
    depth = np.zeros(len(told.text), int)
    for opened, closed in told.closing.items():
        depth[told.read[opened].start : told.read[closed].start] += 1
    marks = np.array([*(token.text[:1] for token in told.read), " "])
    return depth, marks[told.inner]


def purposes(told: Told) -> Answers:
    """Directly within the brackets of a call, a subscript, a list, a grouping, a dict."""
    is_of = {name: np.zeros(len(told.read) + 1, bool) for name in KINDS}
    named = np.zeros(len(told.read) + 1, bool)  # signatures, and the bases of classes
    calls = []
    for node in told.nodes:
        match node:
            case ast.Call():
                calls.append(opening(told, node.func, "("))
            case ast.Subscript():
                is_of["in_subscript"][opening(told, node.value, "[")] = True
            case ast.List() | ast.ListComp():
                is_of["in_list"][told.at(told.span(node)[0])] = True
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                named[_behind_name(told, node)] = True
    is_of["in_call"][calls] = True
    round_ = [token.text == "(" for token in told.read]
    is_of["in_grouping"][:-1] = round_ & ~is_of["in_call"][:-1] & ~named[:-1]
    known = ~told.formatted & ~told.patterns
    found = {name: (of[told.inner], known) for name, of in is_of.items()}
    return found | _arguments(told, calls, known) | _dicts(told, known)


def opening(told: Told, node: ast.expr, mark: str) -> int:
    """The number of the bracket behind what is called or subscripted, in brackets of its own."""
    at = told.at(told.span(node)[1])
    while told.read[at].text != mark:
        at += 1
    return at


def _behind_name(told: Told, node: ast.stmt) -> int:
    """The number of the bracket behind a name, or of what stands there."""
    word = "class" if isinstance(node, ast.ClassDef) else "def"
    at = told.at(told.span(node)[0])
    while told.read[at].text != word:
        at += 1
    at += 2
    # Parameters of a type, since 3.12.
    return told.closing[at] + 1 if told.read[at].text == "[" else at


def _direct(told: Told, marks: str) -> list[tuple[int, int]]:
    """(bracket, mark) of the first of these marks directly within brackets, no lambda's own."""
    found = {}
    for number, token in enumerate(told.read):
        if token.text in marks and token.type == tokenize.OP and not told.in_header[token.start]:
            found.setdefault(int(told.inner[token.start]), number)
    return list(found.items())


def _arguments(told: Told, calls: list[int], known: np.ndarray) -> Answers:
    """Directly within a call, before its first comma and behind it."""
    commas = dict(_direct(told, ","))
    first, later = [], []
    for opened in calls:
        begin, end = told.read[opened].start, told.read[told.closing[opened]].start
        comma = told.read[commas[opened]].start if opened in commas else end
        first.append((opened, begin, comma))
        later.append((opened, comma, end))
    return {
        "first_argument": (_within(told, first), known),
        "later_argument": (_within(told, later), known),
    }


def _within(told: Told, spans: list[tuple[int, int, int]]) -> np.ndarray:
    """The characters of spans that stand directly within their bracket."""
    found = told.nothing()
    for opened, start, end in spans:
        found[start:end] |= told.inner[start:end] == opened
    return found


def _dicts(told: Told, known: np.ndarray) -> Answers:
    """Dicts by their marks: from the first colon directly within, and from the brace."""
    so_far, ahead = [], []
    colons, stars = dict(_direct(told, ":")), {n for n, _ in _stars(told)}
    for opened, closed in told.closing.items():
        begin, end = told.read[opened], told.read[closed]
        if begin.text == "{":
            if opened in colons:
                so_far.append((opened, told.read[colons[opened]].start, end.start))
            if opened in colons or opened in stars or closed == opened + 1:
                ahead.append((begin.start, end.end))
    return {
        "in_dict": (_within(told, so_far), known),
        "dict_ahead": (told.column(ahead), known),
    }


def _stars(told: Told) -> list[tuple[int, int]]:
    """(bracket, mark) of each ** behind a brace or a comma."""
    pairs = enumerate(zip(told.read, told.read[1:]), start=1)
    return [
        (int(told.inner[token.start]), number)
        for number, (before, token) in pairs
        if token.text == "**" and before.text in ("{", ",")
    ]


def last_thing(told: Told) -> Answers:
    """From a bracket to the next thing that is neither space nor comment."""
    found = {"just_opened": [], "just_closed": []}
    for token, behind in zip(told.read, told.read[1:]):
        if token.type == tokenize.OP and token.text in "()[]{}":
            name = "just_opened" if token.text in OPENS else "just_closed"
            found[name].append((token.start, behind.start))
    known = ~told.formatted & ~told.continued
    return {name: (told.column(spans), known) for name, spans in found.items()}
