"""F-strings, which Python's tokenizer takes apart from 3.12 on."""

import sys
import tokenize

from support.told.file import CLOSES, OPENS, Answers, Told

APART = sys.version_info >= (3, 12)
LABELS = ("in_fstring", "in_format", "in_fstring_expression")
STRING, FIELD, FORMAT, BRACKET = "string", "field", "format", "bracket"


class _Reader:
    """Reads tokens, and knows the strings, fields and formats that are open."""

    def __init__(self, told: Told) -> None:
        self.open: list[str] = []
        self.at = 0
        self.columns = {name: told.nothing() for name in LABELS}

    def until(self, place: int) -> None:
        """What is open holds up to a place."""
        inner = next((kind for kind in reversed(self.open) if kind != BRACKET), "")
        holds = (inner in (STRING, FORMAT), inner == FORMAT, FIELD in self.open)
        for name, on in zip(LABELS, holds):
            self.columns[name][self.at : place] = on
        self.at = max(self.at, place)

    def start(self, text: str, start: int) -> None:
        """The letters before an f-string, and its quotes."""
        letters = len(text.rstrip("'\""))
        self.until(start + letters)
        if len(text) - letters == 3:
            self.open.append(STRING)
            self.until(start + letters + 1)
            # So far two quotes are an empty string.
            self.open.pop()
            self.until(start + letters + 2)
        self.open.append(STRING)
        self.until(start + len(text))

    def mark(self, mark: str, start: int) -> None:
        """A brace or a colon of a field, or a bracket in its code."""
        top = self.open[-1]
        if mark == "{" and top in (STRING, FORMAT):
            self.until(start + 1)
            self.open.append(FIELD)
            return
        self.until(start)
        if mark == "}" and top in (FIELD, FORMAT):
            self.open.pop()
        elif mark == ":" and top == FIELD:
            self.open[-1] = FORMAT
        elif mark in OPENS:
            self.open.append(BRACKET)
        elif mark in CLOSES:
            self.open.pop()


def fstrings(told: Told) -> Answers:
    """The literal parts of f-strings, the formats of their fields, and the code within."""
    reader = _Reader(told)
    for token, (start, end) in zip(told.tokens, told.spans):
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_START":
            reader.start(token.string, start)
        elif kind == "FSTRING_END":
            reader.until(end - 1)
            reader.open.pop()
        elif kind == "OP" and reader.open and token.string in (*OPENS, *CLOSES, ":"):
            reader.mark(token.string, start)
    reader.until(len(told.text))
    return {name: (column, ~told.nothing()) for name, column in reader.columns.items()}
