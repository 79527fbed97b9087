"""Brackets and operators of Python: what they open, close, separate and assign."""

from typing import ClassVar

from pellucid.eval.labels.bits import BIT
from pellucid.eval.labels.frames import Frame
from pellucid.eval.labels.marking import Marking
from pellucid.eval.labels.scan import CLOSES
from pellucid.eval.labels.scopes import ASSIGNED, Names, Scopes
from pellucid.eval.labels.words import KEYWORDS

SEPARATES = ("call", "signature", "lambda", "bases")
AUGMENTS = "+-*/%@&|^"


def is_operand(last: str) -> bool:
    """Whether what stood last can be called or subscripted."""
    return bool(last) and (last in ")]}'1" or (last.isidentifier() and last not in KEYWORDS))


class MarkReader:
    """Marks, one character at a time: what a second one makes of the first is known only then."""

    def __init__(self, text: str, out: Marking, scopes: Scopes) -> None:
        self.text, self.out, self.scopes = text, out, scopes
        self.frames = [Frame()]
        self.header = self.last = ""
        self.words = self.just = self.undo = 0
        self.attribute = self.signed = False
        self.around: Names | None = None
        """the scope around a body on the line of its header"""
        self.annotated: list[str] = []

    def mark(self, start: int, end: int, _bits: int) -> None:
        """One character that is no word, number, string or space."""
        first, mark = self.begin(), self.text[start]
        self.header = self.header or mark
        self.words += 1
        if mark in "([{":
            self._open(mark)
        elif mark in ")]}":
            self._close(mark)
        else:
            read = self._READ.get(mark)
            if read:
                read(self, self.text[max(0, start - 1) : start], start)
            self.scopes.value(None) if mark != "=" else None
        self.out.put(start, end, self.state() | first)
        self.last = mark

    def _open(self, mark: str) -> None:
        top, operand = self.frames[-1], is_operand(self.last)
        if operand:
            self._no_target()
        kind = {"(": "call" if operand else "group", "[": "subscript" if operand else "list"}
        kind = kind.get(mark, "curly")
        if len(self.frames) == 1 and self._in_header() and not self.signed:
            # Parameters of types stand before the signature.
            self.signed = mark == "("
            kind = ("signature" if self.header == "def" else "bases") if self.signed else "types"
        self.scopes.value("list" if mark == "[" else None)
        self.frames.append(top.within(mark, kind))
        self.frames[-1].binds = self.last == "as" and kind in ("group", "list")
        self.just = BIT["just_opened"]

    def _in_header(self) -> bool:
        """Whether the header of a function or of a class is being read."""
        return self.scopes.coming is not None and self.around is None

    def _no_target(self) -> None:
        """What stood last is called, subscripted or looked into: it is not what is assigned to."""
        targets = self.frames[-1].targets
        if targets and not self.attribute and targets[-1] == self.last:
            targets.pop()

    def _close(self, mark: str) -> None:
        self.close_lambdas()
        if self.frames[-1].mark == CLOSES[mark]:
            self.pop()
        self.just = BIT["just_closed"]

    def pop(self) -> None:
        """Leave the innermost frame."""
        frame = self.frames.pop()
        if frame.names is not None:
            self.scopes.inner.pop()
        if frame.binds:
            self.scopes.bind(frame.targets)
        elif frame.kind in ("group", "list"):
            self.frames[-1].targets += frame.targets

    def close_lambdas(self) -> None:
        """Lambdas end where what is around them does."""
        while self.frames[-1].kind in ("lambda", "lambda_body"):
            self.pop()

    def _comma(self, _before: str, _at: int) -> None:
        while self.frames[-1].kind == "lambda_body":
            self.pop()
        if self.frames[-1].kind in SEPARATES:
            self.frames[-1].next_item()

    def _colon(self, _before: str, _at: int) -> None:
        if self.frames[-1].kind == "lambda":
            top = self.frames[-1]
            top.kind, top.inherit = "lambda_body", top.outside
            return
        while self.frames[-1].kind == "lambda_body":
            self.pop()
        top = self.frames[-1]
        self.undo, self.named = top.inherit, self.last
        if top.kind == "signature":
            top.inherit = top.outside | BIT["in_annotation"]
        elif top.kind == "curly":
            top.local |= BIT["in_dict"]
        elif top.kind == "line" and not self.header_colon():
            self.annotated, top.targets = top.targets, []
            top.inherit |= BIT["in_annotation"]

    def _equals(self, before: str, at: int) -> None:
        top, double = self.frames[-1], self.text[at + 1 : at + 2] == "="
        shifts = before in ("<", ">") and self.text[at - 2 : at] == 2 * before
        if before == ":":
            top.inherit = self.undo
            self.scopes.bind([self.named])
            self.scopes.bound = [self.named]
        elif before == "=":
            top.inherit = top.before_equals
        elif before not in ("!", "<", ">") or shifts:
            top.before_equals = top.inherit
            self._assign(top, plain=not (double or shifts or (before and before in AUGMENTS)))

    def _assign(self, top: Frame, *, plain: bool) -> None:
        if top.kind in ("call", "bases"):
            top.inherit |= BIT["keyword_value"]
        elif top.kind in ("signature", "lambda"):
            top.inherit = top.outside | BIT["in_default"]
        elif top.kind == "line":
            top.inherit = top.inherit & ~BIT["in_annotation"] | BIT["after_equals"]
            if plain:
                words = self.annotated or top.targets
                self.scopes.bind(words, ASSIGNED)
                top.assigned += words
                self.scopes.bound = list(top.assigned)
                self.annotated, top.targets = [], []

    def _dot(self, _before: str, _at: int) -> None:
        self._no_target()

    def _arrow(self, before: str, _at: int) -> None:
        if before == "-" and self.header == "def" and len(self.frames) == 1:
            self.frames[-1].inherit |= BIT["in_annotation"]

    def _semicolon(self, _before: str, _at: int) -> None:
        if len(self.frames) > 1:
            self.close_lambdas()
        if len(self.frames) == 1:
            self.frames = [Frame()]
            self.header, self.words, self.annotated = "", 0, []

    _READ: ClassVar = {
        ",": _comma,
        ":": _colon,
        "=": _equals,
        ".": _dot,
        ">": _arrow,
        ";": _semicolon,
    }
