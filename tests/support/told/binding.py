"""What is known of a name where it is used: seen, assigned, imported, declared, bound to what.

Scopes are modules, functions and classes; names within lambdas and comprehensions are left out, and
so are those of which the tree does not tell: a name that stands before in another role (in a
pattern, behind `del` or `:=`, in a scope within) has no answer.
"""

import ast
import re
import tokenize
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from support.told.file import COMPREHENSIONS, FUNCTIONS, Answers, Span, Told, walk

VALUES = ("str", "list", "set", "int", "none")
LABELS = (
    *("seen_in_scope", "assigned_before", "imported_name", "declared_outer"),
    *(f"bound_to_{kind}" for kind in VALUES),
)
OTHER, UNSURE = "other", "unsure"
CLOSED = (ast.Lambda, *COMPREHENSIONS, ast.JoinedStr)


class Bound(NamedTuple):
    """A name is bound by a statement."""

    word: str
    start: int
    end: int
    """where the statement, or the header of its block, has ended"""
    value: str
    """one of VALUES, or that it is another, or that it is not told"""
    imported: bool = False


class Scope:
    """The nodes of a module, function or class that are of no scope within it."""

    def __init__(self, told: Told, node: ast.Module | ast.stmt) -> None:
        self.nodes = list(_own(node))
        self.start = told.begin(node.body[0])
        self.names = [n for n in self.nodes if isinstance(n, ast.Name)]
        self.parameters = set(_parameters(node.args)) if isinstance(node, FUNCTIONS) else set()
        self.bound: dict[str, list[Bound]] = defaultdict(list)
        for one in self.nodes:
            for found in _bound(told, one):
                self.bound[found.word].append(found)
        self.outer: dict[str, int] = {}
        for one in self.nodes:
            if isinstance(one, (ast.Global, ast.Nonlocal)):
                self.outer |= dict.fromkeys(one.names, told.span(one)[1])


def _parameters(args: ast.arguments) -> Iterator[str]:
    every = (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg)
    return (one.arg for one in every if one)


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    waiting = list(scope.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, FUNCTIONS):
            args = [one.annotation for one in ast.walk(node.args) if isinstance(one, ast.arg)]
            waiting += [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
            waiting += [*args, node.returns]
        elif isinstance(node, ast.ClassDef):
            waiting += [*node.decorator_list, *node.bases, *node.keywords]
        elif not isinstance(node, CLOSED):
            waiting.extend(ast.iter_child_nodes(node))
        waiting = [one for one in waiting if one is not None]


def _bound(told: Told, node: ast.AST) -> Iterator[Bound]:
    """What a node binds for sure, and from where on."""
    match node:
        case ast.Assign(targets=targets) | ast.AnnAssign(target=ast.expr() as targets):
            if node.value is not None:
                yield from _assigned(
                    told, node, targets if isinstance(targets, list) else [targets]
                )
        case ast.For() | ast.AsyncFor():
            for word in _targets(node.target):
                yield Bound(word, told.span(node)[0], told.begin(node.body[0]), OTHER)
        case ast.With() | ast.AsyncWith():
            for item in node.items:
                for word in _targets(item.optional_vars) if item.optional_vars else ():
                    yield Bound(word, told.span(node)[0], told.begin(node.body[0]), OTHER)
        case ast.Import() | ast.ImportFrom():
            for alias in node.names:
                word = alias.asname or alias.name.split(".")[0]
                yield Bound(word, *told.span(node), OTHER, imported=True)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield Bound(node.name, *told.span(node), OTHER)
        case ast.ExceptHandler(name=str(word)):
            yield Bound(word, told.span(node)[0], told.begin(node.body[0]), OTHER)


def _assigned(told: Told, node: ast.stmt, targets: list[ast.expr]) -> Iterator[Bound]:
    for target in targets:
        whole = isinstance(target, ast.Name)
        for word in _targets(target):
            yield Bound(word, *told.span(node), _value(told, node.value) if whole else UNSURE)


def _targets(target: ast.expr) -> Iterator[str]:
    """The names that are assigned to, and not what is looked into."""
    match target:
        case ast.Name():
            yield target.id
        case ast.Tuple() | ast.List():
            for one in target.elts:
                yield from _targets(one)
        case ast.Starred():
            yield from _targets(target.value)


def _value(told: Told, value: ast.expr) -> str:
    """What a value begins with."""
    at = told.at(told.span(value)[0])
    while told.read[at - 1].text != "=":
        at -= 1
    first, second = told.read[at : at + 2]
    if first.type == tokenize.STRING or told.formatted[first.start]:
        return "str"
    if first.type == tokenize.NUMBER:
        # The dot of .5 is no number yet.
        return "int" if first.text[0] != "." else UNSURE
    if first.text == "set" and (second.text, second.start) == ("(", first.end):
        return "set"
    return {"[": "list", "None": "none"}.get(first.text, OTHER)


class _Words:
    """Where each word stands in a file, and where in another role than being read."""

    def __init__(self, told: Told) -> None:
        self.every: dict[str, list[int]] = defaultdict(list)
        self.roles: dict[str, list[int]] = defaultdict(list)
        read = {told.span(n)[0] for n in told.nodes if _is_load(n)} | _not_bound(told)
        for token in told.read:
            if token.type == tokenize.NAME:
                self.every[token.text].append(token.start)
                if token.start not in read:
                    self.roles[token.text].append(token.start)
            elif told.formatted[token.start : token.end].any():
                for word in re.finditer(r"\w+", told.text[token.start : token.end]):
                    self.every[word[0]].append(token.start + word.start())


def _not_bound(told: Told) -> set[int]:
    """Where words of imports stand that these do not bind: b of `import a.b`, `from b import c`."""
    found = set()
    for node in told.nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bound = {one.word for one in _bound(told, node)}
            first, end = (told.at(place) for place in told.span(node))
            found |= {t.start for t in told.read[first:end] if t.text not in bound}
    return found


def _is_load(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)


def _between(places: list[int], start: int, end: int) -> int:
    return max(0, bisect_left(places, end) - bisect_left(places, start))


def scopes(told: Told) -> Answers:
    """All that is known of names in the scope that they are used in."""
    if not told.tree.body:
        return {}
    words, holds, known = _Words(told), defaultdict(list), defaultdict(list)
    top = Scope(told, told.tree)
    kinds = (*FUNCTIONS, ast.ClassDef)
    for scope in (top, *(Scope(told, n) for n in told.nodes if isinstance(n, kinds))):
        for name in scope.names:
            span = told.span(name)
            answers = _binding(scope, words, name.id, span[0])
            answers |= _imported(scope, top, words, name.id, span[0])
            for label, answer in answers.items():
                known[label].append(span)
                if answer:
                    holds[label].append(span)
    holds["assigned_before"] += _of_clauses(told)
    known["assigned_before"] += _of_clauses(told)
    columns = {n: (told.ends(holds[n]), told.ends(known[n]) & ~told.formatted) for n in LABELS}
    return columns


def _binding(scope: Scope, words: _Words, word: str, place: int) -> dict[str, bool]:
    """What is told of a name of a scope at a place, by label."""
    found: dict[str, bool] = {}
    told_of = [one for one in scope.bound[word] if one.end <= place]
    roles = _between(words.roles[word], scope.start, place)
    if word in scope.parameters or told_of:
        found["seen_in_scope"] = True
    elif not _between(words.every[word], scope.start, place):
        found["seen_in_scope"] = False
    if told_of:
        found["assigned_before"] = True
    elif not roles:
        found["assigned_before"] = False
    if word not in scope.outer:
        found["declared_outer"] = False
    elif scope.outer[word] <= place:
        found["declared_outer"] = True
    last = max(told_of, key=lambda one: one.end, default=None)
    if last and not _between(words.roles[word], last.end, place) and last.value != UNSURE:
        found |= {f"bound_to_{kind}": last.value == kind for kind in VALUES}
    elif not roles:
        found |= {f"bound_to_{kind}": False for kind in VALUES}
    return found


def _imported(scope: Scope, top: Scope, words: _Words, word: str, place: int) -> dict[str, bool]:
    imports = [one for one in top.bound[word] if one.imported]
    within = sum(_between(words.roles[word], one.start, one.end) for one in imports)
    before = len([one for one in imports if one.end <= place])
    if before and within == len(words.roles[word]):
        return {"imported_name": True}
    if not _between(words.roles[word], 0, place) and word not in scope.parameters:
        return {"imported_name": False}
    return {}


def parameters(told: Told) -> Answers:
    """Parameters where a function itself uses them."""
    used, found = [], []
    for node in told.nodes:
        if isinstance(node, FUNCTIONS):
            own = [(one.id, told.span(one)) for one in _own(node) if isinstance(one, ast.Name)]
            args = set(_parameters(node.args))
            used += [span for _, span in own]
            found += [span for word, span in own if word in args]
    return {"is_parameter": (told.ends(found), told.ends(used) & ~told.formatted)}


def _of_clauses(told: Told) -> list[Span]:
    """Names in the last conditions of comprehensions that their clauses have bound."""
    bound = []
    for node in told.nodes:
        if isinstance(node, COMPREHENSIONS):
            targets = [one for g in node.generators for one in ast.walk(g.target)]
            words = {one.id for one in targets if isinstance(one, ast.Name)}
            tests = [one for test in node.generators[-1].ifs for one in walk(test)]
            bound += [told.span(one) for one in tests if _is_load(one) and one.id in words]
    return bound
