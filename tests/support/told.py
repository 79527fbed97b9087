"""What Python's own tokenizer and parser say of a file, by the names of labels.

Each answer is a column of booleans over characters, and beside it the characters it speaks of:
f-strings are left out, which versions of Python cut up differently, and so is what depends on how
far a word has been read.
"""

import ast
import io
import keyword
import tokenize
import warnings
from collections.abc import Callable, Iterator

import numpy as np

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = {
    "in_function": FUNCTIONS,
    "in_class": (ast.ClassDef,),
    "in_loop": (ast.For, ast.AsyncFor, ast.While),
    "in_for": (ast.For, ast.AsyncFor),
    "in_while": (ast.While,),
    "in_with": (ast.With, ast.AsyncWith),
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


Answers = dict[str, tuple[np.ndarray, np.ndarray]]
"""{label: (what holds after each character, the characters that this is said of)}"""


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
        self.tokens = [t for t in tokenize.generate_tokens(read) if t.string.strip()]
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

    def span(self, node: ast.AST) -> tuple[int, int]:
        """The place of a node's first character, and the place behind its last."""
        return self.of(node.lineno, node.col_offset), self.of(node.end_lineno, node.end_col_offset)

    def nothing(self) -> np.ndarray:
        return np.zeros(len(self.text), bool)

    def column(self, spans: Iterator[tuple[int, int]]) -> np.ndarray:
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

    def ends(self, spans: Iterator[tuple[int, int]]) -> np.ndarray:
        """The last characters of spans."""
        return self.column((end - 1, end) for _, end in spans)


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


def lexical(told: Told) -> Answers:
    """Strings behind their first quote and before their last, comments, words and marks."""
    string = told.nothing()
    for token, (_start, end) in zip(told.tokens, told.spans):
        if token.type == tokenize.STRING:
            body = token.string.lstrip("rbufRBUF")
            string[end - len(body) : end - 1] = True
            # So far two quotes are an empty string.
            string[end - len(body) + 1] &= body[:3] not in (3 * "'", 3 * '"')
    marks = lambda inside: told.kind(
        lambda t: t.type == tokenize.OP and (t.string in "()[]{}") == inside
    )
    keywords = lambda t: t.type == tokenize.NAME and keyword.iskeyword(t.string)
    words = told.ends(s for t, s in zip(told.tokens, told.spans) if keywords(t))
    number = told.kind(lambda t: t.type == tokenize.NUMBER)
    # The dot before a number shows what it is only with the digit behind it.
    dots = np.array([character == "." for character in told.text], bool)
    return {
        "in_comment": (told.kind(lambda t: t.type == tokenize.COMMENT), ~told.formatted),
        "in_string": (string, ~told.formatted),
        "in_number": (number, ~told.formatted & ~dots),
        "keyword": (words, told.code),
        "operator": (marks(False), told.code & ~number),
        "bracket_mark": (marks(True), told.code),
    }


def _open(told: Told) -> tuple[np.ndarray, np.ndarray]:
    """How many brackets are open after each character, and which is the innermost."""
    marks, depth, inner = [], np.zeros(len(told.text), int), np.full(len(told.text), " ")
    at = 0
    for token, (start, _) in zip(told.tokens, told.spans):
        if token.type == tokenize.OP and token.string in "()[]{}" and not told.formatted[start]:
            depth[at:start], inner[at:start] = len(marks), marks[-1] if marks else " "
            at = start
            marks.append(token.string) if token.string in "([{" else marks.pop()
    return depth, inner


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


def blocks(told: Told) -> Answers:
    """From the first character of a body that stands on lines of its own to that of its last."""
    found = {name: told.nothing() for name in BLOCKS}
    for node in told.nodes:
        for name, kinds in BLOCKS.items():
            if isinstance(node, kinds) and not _on_header(told, node):
                first, last = node.body[0], node.body[-1]
                start = _begin(told, first)
                found[name][start : told.span(last)[1]] = True
    return {name: (column, told.code) for name, column in found.items()}


def _on_header(told: Told, node: ast.stmt) -> bool:
    start = _begin(told, node.body[0])
    return told.text[told.text.rfind("\n", 0, start) + 1 : start].strip() != ""


def _begin(told: Told, node: ast.stmt) -> int:
    """The first character of a statement, that of its first decorator included."""
    decorators = getattr(node, "decorator_list", [])
    if not decorators:
        return told.span(node)[0]
    return told.text.rfind("@", 0, told.span(decorators[0])[0])


def names(told: Told) -> Answers:
    """Names by what they are: at their last characters, attributes and keywords at all."""
    of = {name: [] for name in ("def_name", "class_name", "parameter_name", "import_name")}
    of |= {"attribute": [], "keyword_name": []}
    for node in told.nodes:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                of["def_name"].append(_behind(told, node, "def"))
            case ast.ClassDef():
                of["class_name"].append(_behind(told, node, "class"))
            case ast.arg():
                start = told.span(node)[0]
                of["parameter_name"].append((start, start + len(node.arg)))
            case ast.Attribute():
                end = told.span(node)[1]
                of["attribute"].append((end - len(node.attr), end))
            case ast.Import() | ast.ImportFrom():
                first, end = np.searchsorted(told.firsts, told.span(node))
                inside = range(first, end)
                of["import_name"] += [told.spans[i] for i in inside if is_name(told.tokens[i])]
                dotted = [i for i in inside if told.tokens[i - 1].string in (".", "...")]
                of["attribute"] += [told.spans[i] for i in dotted]
    of["keyword_name"] = _keyword_names(told, set(of["parameter_name"]))
    every = {name: told.column(spans) for name, spans in of.items()}
    whole = ("attribute", "keyword_name")
    return {k: (v, told.name if k in whole else told.name_end) for k, v in every.items()}


def _behind(told: Told, node: ast.stmt, word: str) -> tuple[int, int]:
    """The span of the name behind `def` or `class`."""
    at = int(np.searchsorted(told.firsts, told.span(node)[0]))
    while told.tokens[at].string != word:
        at += 1
    return told.spans[at + 1]


def _keyword_names(told: Told, parameters: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Names in round brackets with an = behind them that are no parameters, by the tokens."""
    _, inner = _open(told)
    read = [p for p in zip(told.tokens, told.spans) if p[0].type != tokenize.COMMENT]
    tokens, spans = zip(*read) if read else ((), ())
    triples = zip(tokens, tokens[1:], tokens[2:], spans[1:])
    return [
        span
        for before, token, behind, span in triples
        if is_name(token) and before.string in ("(", ",") and behind.string == "="
        if inner[span[0]] == "(" and span not in parameters
    ]


def comprehensions(told: Told) -> Answers:
    """From the first target of a comprehension to the end of its last clause, at names."""
    spans = []
    for node in told.nodes:
        if isinstance(node, COMPREHENSIONS):
            last = node.generators[-1]
            end = max(told.span(one)[1] for one in (last.iter, *last.ifs))
            spans.append((told.span(node.generators[0].target)[0], end))
    return {"in_comprehension": (told.column(spans), told.name_end)}


def scopes(told: Told) -> Answers:
    """Parameters where a function itself uses them; what the clauses of a comprehension bind."""
    used, parameters, bound = [], [], []
    for node in told.nodes:
        if isinstance(node, FUNCTIONS):
            args = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
            own = [told.span(one) for one in _own_names(node)]
            used += own
            parameters += [s for s in own if told.text[slice(*s)] in args]
        elif isinstance(node, COMPREHENSIONS):
            targets = [one for g in node.generators for one in ast.walk(g.target)]
            words = {one.id for one in targets if isinstance(one, ast.Name)}
            tests = [one for test in node.generators[-1].ifs for one in walk(test)]
            loads = [one for one in tests if isinstance(one, ast.Name) and one.id in words]
            bound += [told.span(one) for one in loads]
    bound_here = told.ends(bound) & ~told.formatted
    return {
        "is_parameter": (told.ends(parameters), told.ends(used) & ~told.formatted),
        "assigned_before": (bound_here, bound_here),
    }


def _own_names(function: ast.FunctionDef) -> Iterator[ast.Name]:
    """Names in a function's body, and not in what has names of its own."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            yield node
        if not isinstance(
            node, (*FUNCTIONS, ast.ClassDef, ast.Lambda, *COMPREHENSIONS, ast.JoinedStr)
        ):
            waiting.extend(ast.iter_child_nodes(node))


def everything(text: str) -> Answers:
    """All answers about a file."""
    told, answers = Told(text), {}
    for part in (lexical, brackets, blocks, names, comprehensions, scopes):
        answers |= part(told)
    return answers
