"""The blocks, lambdas and comprehensions that a place stands in."""

import ast
from collections.abc import Iterator

import numpy as np
from support.told.file import COMPREHENSIONS, FUNCTIONS, LOOPS, Answers, Told

TRIES = (ast.Try, ast.TryStar)
BLOCKS = {
    "in_function": FUNCTIONS,
    "in_class": (ast.ClassDef,),
    "in_loop": LOOPS,
    "in_for": (ast.For, ast.AsyncFor),
    "in_while": (ast.While,),
    "in_with": (ast.With, ast.AsyncWith),
    "in_if": (ast.If,),
    "in_try": TRIES,
    "in_except": (ast.ExceptHandler,),
}
Body = tuple[ast.AST, int, int]


def bodies(told: Told, kinds: tuple[type, ...]) -> Iterator[Body]:
    """(node, first character, end) of bodies that stand on lines of their own, outer ones first."""
    found = [
        (node, told.begin(node.body[0]), told.span(node.body[-1])[1])
        for node in told.nodes
        if isinstance(node, kinds) and not told.on_header(node)
    ]
    return iter(sorted(found, key=lambda one: (one[1], -one[2])))


def blocks(told: Told) -> Answers:
    """From the first character of a body that stands on lines of its own to that of its last."""
    found = {
        name: told.column((a, b) for _, a, b in bodies(told, kinds))
        for name, kinds in BLOCKS.items()
    }
    for node in told.nodes:
        if isinstance(node, TRIES) and node.finalbody:
            start, end = told.begin(node.finalbody[0]), told.span(node.finalbody[-1])[1]
            alone = told.text[told.text.rfind("\n", 0, start) + 1 : start].strip() == ""
            found["in_except"][start : end if alone else start] = True
    matches = [n for n in told.nodes if isinstance(n, ast.Match)]
    found["in_match"] = told.column((told.case(n.cases[0]), told.span(n)[1]) for n in matches)
    return {name: (column, told.code) for name, column in found.items()} | _nested(told)


def _nested(told: Told) -> Answers:
    """In how many loops and functions, and of which kind the innermost function is."""
    counts = {"in_nested_loop": LOOPS, "in_nested_function": FUNCTIONS}
    found = {}
    for name, kinds in counts.items():
        depth = np.zeros(len(told.text), int)
        for _, start, end in bodies(told, kinds):
            depth[start:end] += 1
        found[name] = depth > 1
    methods = {
        id(one)
        for node in told.nodes
        if isinstance(node, ast.ClassDef) and not told.on_header(node)
        for one in node.body
    }
    found |= {"in_async": told.nothing(), "in_method": told.nothing()}
    for node, start, end in bodies(told, FUNCTIONS):
        found["in_async"][start:end] = isinstance(node, ast.AsyncFunctionDef)
        found["in_method"][start:end] = id(node) in methods
    return {name: (column, told.code) for name, column in found.items()}


def decorated(told: Told) -> Answers:
    """From the end of the first decorator's line to the word def or class."""
    spans = []
    for node in told.nodes:
        if getattr(node, "decorator_list", []):
            at = told.at(told.span(node)[0])
            at += told.read[at].text == "async"
            behind = told.at(told.span(node.decorator_list[0])[1])
            while told.read[behind].text == ")":
                behind += 1
            spans.append((told.read[behind].start, told.read[at].end))
    return {"decorated": (told.column(spans), told.code)}


def lambdas(told: Told) -> Answers:
    """From the end of the word lambda to that of the expression."""
    found = []
    for node in told.nodes:
        if isinstance(node, ast.Lambda):
            start, _ = told.span(node)
            found.append(told.to_end_of_item(start + len("lambda"), node.body))
    return {"in_lambda": (told.column(found), told.code)}


def comprehensions(told: Told) -> Answers:
    """From the first target of a comprehension to the end of its last clause, at names."""
    spans = []
    for node in told.nodes:
        if isinstance(node, COMPREHENSIONS):
            last = node.generators[-1]
            end = max(told.span(one)[1] for one in (last.iter, *last.ifs))
            spans.append((told.span(node.generators[0].target)[0], end))
    return {"in_comprehension": (told.column(spans), told.name_end)}
