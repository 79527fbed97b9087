"""Python text as lexemes, read the same way under every version of Python and never refused.

Python's own tokenizer shows an f-string as one token up to 3.11 and as many from 3.12, and gives up
on what it cannot close. Here what stands behind a place never changes how it is read.
"""

import re
from typing import NamedTuple

NAME, NUMBER, COMMENT, NEWLINE, BACKSLASH, QUOTE, OP, SPACE = range(1, 9)
STRING, FIELD, FIELD_END = range(9, 12)
"""A piece of a string; where a replacement field begins (no characters); the brace that ends it."""

CODE = re.compile(
    r"([^\W\d]\w*)"
    r"|(0[xX]\w*|\d\w*(?:(?<=[eE])[+-]\w*)?(?:\.\w*(?:(?<=[eE])[+-]\w*)?)?)"
    r"|(#[^\n]*)|(\n)|(\\)|(['\"])|([^\s\w])|([^\S\n]+)"
)
ESCAPE = re.compile(r"\\(?:N\{[^}'\"\n]*\}?|[\s\S])?")
BACKSLASHED = re.compile(r"\\[\s\S]?")
PREFIXES = frozenset("r b u f rb br fr rf".split())
CLOSES = {")": "(", "]": "[", "}": "{"}

# What is said of each piece of a string.
STRING_BITS = (
    *("quote_single", "quote_double", "in_triple_string", "in_fstring", "in_raw_string"),
    *("in_bytes", "in_format", "escaped"),
)
SINGLE, DOUBLE, TRIPLE, FORMATTED, RAW, BYTES, FORMAT, ESCAPED = (1 << n for n in range(8))
OPENS = 1 << 8
"""the piece begins a string"""


def _plain(quote: str, formatted: bool) -> re.Pattern:
    mark, braces = quote[0], "{}" if formatted else ""
    line = "" if len(quote) == 3 else r"\n"
    inner = f"|{mark}(?!{mark}{mark})" if len(quote) == 3 else ""
    return re.compile(rf"(?:[^{mark}\\{braces}{line}]{inner})+")


PLAIN = {
    (quote, formatted): _plain(quote, formatted)
    for quote in ("'", '"', "'''", '"""')
    for formatted in (False, True)
}


class _String(NamedTuple):
    quote: str
    bits: int


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.out: list[tuple[int, int, int, int]] = []
        self.string: _String | None = None
        self.around: list[_String] = []  # of open replacement fields
        self.brackets: list[str] = []

    def run(self) -> list[tuple[int, int, int, int]]:
        while self.at < len(self.text):
            if self.string:
                self._string(self.string)
            else:
                self._code()
        return self.out

    def _code(self) -> None:
        put = self.out.append
        for match in CODE.finditer(self.text, self.at):
            kind = match.lastindex
            if kind == SPACE:
                continue
            start, end = match.span()
            if kind == QUOTE:
                self._open(start)
                return
            if kind == OP and self._bracket(self.text[start], start):
                return
            put((kind, start, end, 0))
        self.at = len(self.text)

    def _bracket(self, mark: str, start: int) -> bool:
        """Whether a mark ends the code of a replacement field."""
        top = self.brackets[-1] if self.brackets else ""
        if mark in "([{":
            self.brackets.append(mark)
        elif top == "f" and mark in "}:":
            self.string = self.around[-1]
            self.at = start + 1
            if mark == ":":
                self.string = _String(self.string.quote, self.string.bits | FORMAT)
                self.out.append((STRING, start, start + 1, self.string.bits))
            else:
                self._end_field(start)
            return True
        elif mark in ")]}" and top == CLOSES[mark]:
            self.brackets.pop()
        return False

    def _end_field(self, start: int) -> None:
        self.brackets.pop()
        self.string = self.around.pop()
        self.out.append((FIELD_END, start, start + 1, self.string.bits))
        self.at = start + 1

    def _open(self, start: int) -> None:
        mark, prefix = self.text[start], ""
        if self.out and self.out[-1][0] == NAME and self.out[-1][2] == start:
            prefix = self.text[self.out[-1][1] : start].lower()
        prefix = prefix if prefix in PREFIXES else ""
        bits = SINGLE if mark == "'" else DOUBLE
        for letter, bit in (("f", FORMATTED), ("r", RAW), ("b", BYTES)):
            bits |= bit if letter in prefix else 0
        self.out.append((STRING, start, start + 1, bits | OPENS))
        quote = mark
        if self.text.startswith(3 * mark, start):
            # So far the second quote has closed an empty string; the third opens another one.
            quote, bits = 3 * mark, bits | TRIPLE
            self.out.append((STRING, start + 1, start + 2, 0))
            self.out.append((STRING, start + 2, start + 3, bits | OPENS))
        self.at, self.string = start + len(quote), _String(quote, bits)

    def _string(self, string: _String) -> None:
        """Read one piece of a string."""
        text, at = self.text, self.at
        match = PLAIN[string.quote, bool(string.bits & FORMATTED)].match(text, at)
        if match:
            self._piece(match.end())
        elif text[at] == "\\":
            self._escape(string)
        elif text[at] == "{":
            self._brace(string)
        elif text[at] == "}":
            if string.bits & FORMAT:
                self._end_field(at)
            else:
                self._piece(at + 1)
        elif text[at] == "\n" and len(string.quote) == 1:
            self.string = None  # never closed
        else:
            self._close(string)

    def _piece(self, end: int, more: int = 0) -> None:
        self.out.append((STRING, self.at, end, self.string.bits | more))
        self.at = end

    def _escape(self, string: _String) -> None:
        if string.bits & FORMATTED and self.text[self.at + 1 : self.at + 2] in ("{", "}"):
            self._piece(self.at + 1, 0 if string.bits & RAW else ESCAPED)
        elif string.bits & RAW:
            self._piece(BACKSLASHED.match(self.text, self.at).end())
        else:
            named = ESCAPE if string.bits & FORMATTED else BACKSLASHED
            self._piece(named.match(self.text, self.at).end(), ESCAPED)

    def _brace(self, string: _String) -> None:
        following = self.text[self.at + 1 : self.at + 2]
        self._piece(self.at + 2 if following == "{" else self.at + 1)
        if following not in ("", "{"):
            self.around.append(string)
            self.brackets.append("f")
            self.string = None
            self.out.append((FIELD, self.at, self.at, 0))

    def _close(self, string: _String) -> None:
        if len(string.quote) == 3:
            whole = self.text.startswith(string.quote, self.at)
            self._piece(min(self.at + 2, len(self.text)))
            if not whole:
                return
        self.out.append((STRING, self.at, self.at + 1, 0))
        self.at, self.string = self.at + 1, None


def scan(text: str) -> list[tuple[int, int, int, int]]:
    """The lexemes of a text as (kind, start, end, bits) in characters, white space aside."""
    return _Scanner(text).run()
