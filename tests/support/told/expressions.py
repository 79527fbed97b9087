"""Which part of a statement or of an argument a place is."""

import ast
import tokenize
from collections.abc import Iterator

import numpy as np
from support.told.file import FUNCTIONS, Answers, Span, Told

ALIAS = getattr(ast, "TypeAlias", ast.Interactive)
"""`type a = b`, since Python 3.12; before, a node that no file has."""


def clauses(told: Told) -> Answers:
    """Behind return, in conditions, behind the = of an assignment, in annotations."""
    found = {n: [] for n in ("in_return", "in_condition", "after_equals", "in_annotation")}
    for node in told.nodes:
        match node:
            case ast.Return() if _first_of_line(told, node):
                start, end = told.span(node)
                found["in_return"].append((start + len("return"), end))
            case ast.If() | ast.While():
                word = told.at(told.span(node)[0])
                behind = told.at(told.begin(node.body[0])) - 1
                found["in_condition"].append((told.read[word].end, told.read[behind].start))
            case ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ALIAS():
                equals = _equals(told, node)
                if equals is not None:
                    found["after_equals"].append((equals, told.span(node)[1]))
    found["in_annotation"] = list(_annotations(told))
    known = _plain(told)
    return {name: (told.column(spans), known) for name, spans in found.items()}


def _plain(told: Told) -> np.ndarray:
    """Tokens that are no comments, but for a first = or : that an = behind it takes back."""
    known = told.kind(lambda t: t.type != tokenize.COMMENT) & ~told.formatted & ~told.patterns
    for token in told.read:
        if token.text in ("==", ":="):
            known[token.start] = False
    return known


def _first_of_line(told: Told, node: ast.stmt) -> bool:
    start = told.span(node)[0]
    return not told.text[told.text.rfind("\n", 0, start) + 1 : start].strip()


def _equals(told: Told, node: ast.stmt) -> int | None:
    """The place of the first = of an assignment: of `+=`, the last character."""
    if node.value is None:
        return None
    match node:
        case ast.Assign():
            target = node.targets[0]
        case ALIAS():
            target = node.name
        case _:
            target = node.target
    at = told.at(told.span(target)[1])
    while not told.read[at].text.endswith("="):
        at += 1
    return told.read[at].end - 1


def _annotations(told: Told) -> Iterator[Span]:
    for node in told.nodes:
        match node:
            case ast.arg(annotation=ast.expr() as annotation):
                start = told.span(node)[0] + len(node.arg)
                yield told.to_end_of_item(_mark(told, start, ":"), annotation)
            case ast.AnnAssign():
                start = _mark(told, told.span(node.target)[1], ":")
                yield told.to_end_of_item(start, node.annotation)
            case (
                ast.FunctionDef(returns=ast.expr() as returns)
                | ast.AsyncFunctionDef(returns=ast.expr() as returns)
            ):
                at = told.at(told.span(returns)[0])
                while told.read[at].text != "->":
                    at -= 1
                # Its first character could be a minus.
                yield told.to_end_of_item(told.read[at].end - 1, returns)


def _mark(told: Told, place: int, mark: str) -> int:
    """The place of the first such mark from a place on."""
    at = told.at(place)
    while told.read[at].text != mark:
        at += 1
    return told.read[at].start


def values(told: Told) -> Answers:
    """Defaults of parameters, and values of keyword arguments, from their = on."""
    found = {"in_default": [], "keyword_value": []}
    for node in told.nodes:
        if isinstance(node, ast.keyword) and node.arg is not None:
            start = _mark(told, told.span(node)[0], "=")
            found["keyword_value"].append(told.to_end_of_item(start, node.value))
        elif isinstance(node, (ast.Lambda, *FUNCTIONS)):
            for value in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                at = told.at(told.span(value)[0])
                while told.read[at].text != "=":
                    at -= 1
                found["in_default"].append(told.to_end_of_item(told.read[at].start, value))
    known = _plain(told)
    return {name: (told.column(spans), known) for name, spans in found.items()}


def parsed(told: Told) -> Answers:
    """What the nodes of the tree say directly."""
    found = {n: [] for n in ("load", "store", "callee", "left_side", "in_comparison")}
    for node in told.nodes:
        match node:
            case ast.Name(ctx=ast.Load()):
                found["load"].append(told.span(node))
            case ast.Name(ctx=ast.Store()):
                found["store"].append(told.span(node))
            case ast.Call():
                found["callee"].append(told.span(node.func))
            case ast.Compare():
                found["in_comparison"].append(told.span(node))
            case ast.Assign():
                found["left_side"] += [told.span(one) for one in node.targets]
            case ast.AugAssign() | ast.AnnAssign():
                found["left_side"].append(told.span(node.target))
    return {name: (told.column(spans), ~told.formatted) for name, spans in found.items()}
