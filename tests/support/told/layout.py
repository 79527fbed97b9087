"""Lines and their beginnings, by the tokens that end and indent them."""

import ast
import tokenize
from typing import NamedTuple

import numpy as np
from support.told.file import Answers, Told

LEVELS = ("level_0", "level_1", "level_2", "level_3", "level_4_or_more")
STRINGS = (tokenize.STRING, getattr(tokenize, "FSTRING_START", tokenize.STRING))


class _Gap(NamedTuple):
    """From the end of a logical line to the first token of the next."""

    start: int
    end: int
    width: int
    """columns of the line's indentation, 0 where it opens a block"""
    blank: int | None
    """where the first blank line in it ends"""


def levels(told: Told) -> Answers:
    """In how many indented blocks each token stands."""
    depth, level = np.full(len(told.text), -1), 0
    for token in told.all:
        level += (token.type == tokenize.INDENT) - (token.type == tokenize.DEDENT)
        if token.string.strip() and token.type not in (tokenize.COMMENT, tokenize.INDENT):
            depth[told.place(token.start) : told.place(token.end)] = level
    known = (depth >= 0) & ~told.formatted
    exact = {name: depth == n for n, name in enumerate(LEVELS[:-1])}
    exact |= {LEVELS[-1]: depth > 3, "indented": depth > 0, "indented_twice": depth > 1}
    return {name: (column, known) for name, column in exact.items()}


def _gaps(told: Told) -> list[_Gap]:
    found, begun, width, level = [], 0, 0, [0]
    blank, before, fresh, opens = None, None, True, False
    for token in told.all:
        kind, start = token.type, told.place(token.start)
        if kind == tokenize.INDENT:
            level.append(len(token.string.expandtabs()))
        elif kind == tokenize.DEDENT:
            level.pop()
        elif kind == tokenize.NL and fresh and blank is None:
            # A line of a comment ends so, too.
            blank = None if before == tokenize.COMMENT else start
        elif kind == tokenize.NEWLINE:
            begun, fresh, blank = start, True, None
            width = 0 if opens else level[-1]
        elif token.string.strip() and kind != tokenize.COMMENT:
            if fresh:
                found.append(_Gap(begun, start, width, blank))
            fresh, opens = False, token.string == ":"
        before = kind
    return [*found, _Gap(begun, len(told.text), width, blank)] if fresh else found


def beginnings(told: Told) -> Answers:
    """What holds before anything of a logical line stands there."""
    gaps = _gaps(told)
    dedent = told.nothing()
    for gap in gaps:
        column = 0
        for place in range(gap.start, gap.end):
            mark = told.text[place]
            column = {"\n": 0, "\t": column + 8 - column % 8}.get(mark, column + (mark == " "))
            dedent[place] = column < gap.width
    known = ~told.formatted & ~told.continued & ~told.kind(_is_comment)
    return {
        "logical_start": (told.column((g.start, g.end) for g in gaps), known),
        "after_blank_line": (
            told.column((g.blank, g.end) for g in gaps if g.blank is not None),
            known,
        ),
        "dedent_so_far": (dedent, known),
    }


def _is_comment(token: tokenize.TokenInfo) -> bool:
    return token.type == tokenize.COMMENT


def lines(told: Told) -> Answers:
    """The first thing of each line, and the white space before it."""
    first, space = told.nothing(), told.nothing()
    for token, (start, end) in zip(told.tokens, told.spans):
        line = told.text.rfind("\n", 0, start) + 1
        if told.text[line:start].strip():
            continue
        space[line:start] = True
        if token.type in STRINGS:
            letters = len(token.string) - len(token.string.lstrip("rbufRBUF"))
            first[start : start + max(letters, 1)] = True
        else:
            first[start : start + 1 if token.type == tokenize.OP else end] = True
    known = told.kind(lambda t: t.type != tokenize.STRING) & ~told.formatted
    starts = told.column((i, i + 1) for i, c in enumerate(told.text) if c == "\n")
    inside = told.kind(lambda t: t.type == tokenize.STRING) | told.formatted
    # Of the number .5 only the dot is known to stand first.
    known &= ~told.kind(lambda t: t.type == tokenize.NUMBER and t.string[0] == ".")
    return {
        "first_of_line": (first, known | told.kind(lambda t: t.type == tokenize.STRING)),
        "line_start": (space | starts, ~inside),
    }


def colons(told: Told) -> Answers:
    """From the colon that ends a header to the next thing that is neither space nor comment."""
    found = []
    for number in _header_colons(told):
        found.append((told.read[number].start, told.read[number + 1].start))
    known = ~told.formatted & ~told.continued
    # The colon of := could be one that ends a header.
    known[[token.start for token in told.read if token.text == ":="]] = False
    return {"after_colon": (told.column(found), known)}


def _header_colons(told: Told) -> set[int]:
    found = set()
    for node in told.nodes:
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and block and not isinstance(node, ast.Module):
                number = told.at(told.begin(block[0])) - 1
                # What follows `else` may be an `elif`, which is an If of its own.
                found |= {number} if told.read[number].text == ":" else set()
        if isinstance(node, ast.Match):
            found.add(told.at(told.case(node.cases[0])) - 1)
    return found


def backslashes(told: Told) -> Answers:
    """From a backslash that continues a line to the end of the next line."""
    ends = [
        told.place(token.start)
        for token in told.all
        if token.type in (tokenize.NEWLINE, tokenize.NL)
    ]
    found = []
    for place in np.flatnonzero(told.continued):
        if told.text[place] == "\\":
            end = ends[int(np.searchsorted(ends, place))] if ends[-1:] > [place] else None
            found.append((place, end))
    known = ~told.formatted & ~told.kind(_is_comment)
    return {"continued": (told.column(found), known)}
