"""Names by what they are for."""

import ast
import keyword
import tokenize

import numpy as np
from support.told.file import Answers, Read, Span, Told, is_name


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
    known = dict.fromkeys(of, told.name_end)
    # The keywords of a pattern look like those of a call.
    known |= {"attribute": told.name, "keyword_name": told.name & ~told.patterns}
    return {name: (column, known[name]) for name, column in every.items()}


def _behind(told: Told, node: ast.stmt, word: str) -> Span:
    """The span of the name behind `def` or `class`."""
    at = int(np.searchsorted(told.firsts, told.span(node)[0]))
    while told.tokens[at].string != word:
        at += 1
    return told.spans[at + 1]


def _keyword_names(told: Told, parameters: set[Span]) -> list[Span]:
    """Names in round brackets with an = behind them that are no parameters, by the tokens."""
    triples = zip(told.read, told.read[1:], told.read[2:])
    return [
        (token.start, token.end)
        for before, token, behind in triples
        if is_word(token) and before.text in ("(", ",") and behind.text == "="
        if told.read[told.inner[token.start]].text == "("
        if (token.start, token.end) not in parameters
    ]


def is_word(token: Read) -> bool:
    """Whether something read is a word that is no keyword."""
    return token.type == tokenize.NAME and not keyword.iskeyword(token.text)


def decorators(told: Told) -> Answers:
    """The dotted name behind an @, whose arguments are none of it."""
    found = []
    for node in told.nodes:
        for one in getattr(node, "decorator_list", []):
            start, end = told.span(one)
            numbers = range(told.at(start), told.at(end))
            found += [
                (token.start, token.end)
                for token in (told.read[n] for n in numbers)
                if is_word(token) and told.inner[token.start] == -1
            ]
    return {"decorator_name": (told.column(found), told.name_end)}
