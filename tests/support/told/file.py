"""A file as Python's own tokenizer and parser read it: places, tokens, brackets, nodes."""

import ast
import io
import keyword
import tokenize
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
OPENS, CLOSES = "([{", ")]}"

Answers = dict[str, tuple[np.ndarray, np.ndarray]]
"""{label: (what holds after each character, the characters that this is said of)}"""
Span = tuple[int, int]


class Read(NamedTuple):
    """A token that is no comment, with its place; an f-string is one."""

    text: str
    start: int
    end: int
    type: int


class Told:
    """A file as Python reads it; SyntaxError where it refuses."""

    def __init__(self, text: str) -> None:
        self.text = text
        lines = text.split("\n")
        self.starts = np.cumsum([0, *(len(line) + 1 for line in lines)])
        self.lines = lines
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.tree = ast.parse(text)
        read = io.StringIO(text, newline="\n").readline
        self.all = list(tokenize.generate_tokens(read))
        self.tokens = [t for t in self.all if t.string.strip()]
        self.spans = [(self.place(t.start), self.place(t.end)) for t in self.tokens]
        self.firsts = np.array([start for start, _ in self.spans])
        self.nodes = list(walk(self.tree))
        self.formatted = self._formatted()
        code = lambda t: t.type not in (tokenize.COMMENT, tokenize.STRING)
        self.code = self.kind(code) & ~self.formatted
        """characters of tokens that are no strings and no comments"""
        words = [(t, s) for t, s in zip(self.tokens, self.spans) if is_name(t)]
        self.name = self.column(s for _, s in words) & ~self.formatted
        self.name_end = self.ends(s for _, s in words) & ~self.formatted

    def place(self, at: tuple[int, int]) -> int:
        """A line and a column in characters, as a place in the text."""
        return int(self.starts[at[0] - 1]) + at[1]

    def of(self, line: int, column: int) -> int:
        """A line and a column in bytes, as a place in the text."""
        return self.place((line, len(self.lines[line - 1].encode()[:column].decode())))

    def span(self, node: ast.AST) -> Span:
        """The place of a node's first character, and the place behind its last."""
        return self.of(node.lineno, node.col_offset), self.of(node.end_lineno, node.end_col_offset)

    def nothing(self) -> np.ndarray:
        return np.zeros(len(self.text), bool)

    def column(self, spans: Iterable[Span]) -> np.ndarray:
        """The characters of spans."""
        found = self.nothing()
        for start, end in spans:
            found[start:end] = True
        return found

    def _formatted(self) -> np.ndarray:
        """The characters of f-strings."""
        found, begun = self.nothing(), []
        for token, (start, end) in zip(self.tokens, self.spans):
            kind = tokenize.tok_name[token.type]
            prefix = token.string[: len(token.string) - len(token.string.lstrip("rbufRBUF"))]
            if kind == "FSTRING_START":
                begun.append(start)
            elif kind == "FSTRING_END":
                found[begun.pop() : end] = True
            elif kind == "STRING" and "f" in prefix.lower():
                found[start:end] = True
        return found

    def kind(self, holds: Callable[[tokenize.TokenInfo], bool]) -> np.ndarray:
        """The characters of tokens of a kind."""
        return self.column(s for t, s in zip(self.tokens, self.spans) if holds(t))

    def ends(self, spans: Iterable[Span]) -> np.ndarray:
        """The last characters of spans."""
        return self.column((end - 1, end) for _, end in spans)

    @cached_property
    def read(self) -> list[Read]:
        """All tokens but comments, and one behind the last that is empty."""
        found, past = [], 0
        for token, (start, end) in zip(self.tokens, self.spans):
            if token.type == tokenize.COMMENT or start < past:
                continue
            if self.formatted[start]:
                # One token before Python 3.12, many since; f-strings that touch are one here.
                end = past = start + int(np.argmin(np.append(self.formatted[start:], False)))
            found.append(Read(token.string, start, end, token.type))
        return [*found, Read("", len(self.text), len(self.text), tokenize.ENDMARKER)]

    @cached_property
    def read_starts(self) -> list[int]:
        return [token.start for token in self.read]

    def at(self, place: int) -> int:
        """The number, in `read`, of the first token that begins at a place or behind it."""
        return bisect_left(self.read_starts, place)

    @cached_property
    def closing(self) -> dict[int, int]:
        """{number of an opening bracket: that of its closing one}, by numbers in `read`."""
        found, opened = {}, []
        for number, token in enumerate(self.read):
            if token.type == tokenize.OP and token.text in OPENS:
                opened.append(number)
            elif token.type == tokenize.OP and token.text in CLOSES:
                found[opened.pop()] = number
        return found

    @cached_property
    def inner(self) -> np.ndarray:
        """The number, in `read`, of the innermost bracket open after each character; -1 for none."""
        found = np.full(len(self.text), -1)
        for opened, closed in sorted(self.closing.items()):
            found[self.read[opened].start : self.read[closed].start] = opened
        return found

    @cached_property
    def headers(self) -> list[Span]:
        """From each `lambda` to its colon."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Lambda):
                last = self.at(self.span(node.body)[0]) - 1
                while self.read[last].text != ":":
                    last -= 1
                found.append((self.span(node)[0], self.read[last].end))
        return found

    @cached_property
    def in_header(self) -> np.ndarray:
        """Between a `lambda` and its colon, this included."""
        return self.column(self.headers)

    @cached_property
    def patterns(self) -> np.ndarray:
        """What `match` and `case` say: until its end a pattern looks like an expression."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Match):
                found.append((self.span(node)[0], self.case(node.cases[0])))
                found += [(self.case(one), self.begin(one.body[0])) for one in node.cases]
        return self.column(found)

    def case(self, node: ast.match_case) -> int:
        """The place of the word `case`, which the parser does not tell."""
        at = self.at(self.span(node.pattern)[0]) - 1
        while self.read[at].text != "case":
            at -= 1
        return self.read[at].start

    @cached_property
    def continued(self) -> np.ndarray:
        """White space between tokens that a backslash continues, from this on."""
        found, comments = self.nothing(), self.kind(lambda t: t.type == tokenize.COMMENT)
        for one, other in zip(self.read, self.read[1:]):
            for place in range(one.end, other.start):
                if self.text[place] == "\\" and not comments[place]:
                    found[place : other.start] = True
                    break
        return found

    def begin(self, node: ast.stmt) -> int:
        """The first character of a statement, that of its first decorator included."""
        decorators = getattr(node, "decorator_list", [])
        if not decorators:
            return self.span(node)[0]
        return self.text.rfind("@", 0, self.span(decorators[0])[0])

    def on_header(self, node: ast.stmt) -> bool:
        """Whether a block begins on the line of its header."""
        start = self.begin(node.body[0])
        return self.text[self.text.rfind("\n", 0, start) + 1 : start].strip() != ""

    def to_end_of_item(self, start: int, value: ast.expr) -> Span:
        """From a place to the comma, bracket or mark behind a value, its own brackets included."""
        first, behind = self.at(start), self.at(self.span(value)[1])
        opened = [n for n in range(first, self.at(self.span(value)[0])) if n in self.closing]
        return start, self.read[behind + len(opened)].start


def is_name(token: tokenize.TokenInfo) -> bool:
    """Whether a token is a word that is no keyword."""
    return token.type == tokenize.NAME and not keyword.iskeyword(token.string)


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those within f-strings, which have no places of their own before 3.12."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.JoinedStr):
            yield node
            waiting.extend(ast.iter_child_nodes(node))
