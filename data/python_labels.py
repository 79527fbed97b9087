"""What state Python source is in after each character, decided by what stands before it alone.

The labels are free ground truth for probes, concept heads and routed gradients: a causal model can
know every one of them at the token they are given for. They come in families, so that what a model
was trained on never scores it; `loop` labels are those that training may use.
"""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

LOOP = (
    "in_string",
    "in_comment",
    "in_brackets",
    "in_nested_brackets",
    "in_round",
    "in_square",
    "in_curly",
    "indented",
    "indented_twice",
    "line_start",
    "in_function",
    "in_class",
    "in_loop",
    "attribute",
)
"""Names of the bits of a label, lowest first."""

FAMILIES = {"loop": LOOP}

_BIT = {name: 1 << number for number, name in enumerate(LOOP)}
_CLOSES = {")": "(", "]": "[", "}": "{"}
_INNERMOST = {
    mark: _BIT["in_brackets"] | _BIT[name]
    for mark, name in (("(", "in_round"), ("[", "in_square"), ("{", "in_curly"), ("f", "in_curly"))
}
_KINDS = {"def": "in_function", "class": "in_class", "for": "in_loop", "while": "in_loop"}
_STRING_RUN = re.compile(r"[^'\"\\\n{}]+")
_COMMENT_RUN = re.compile(r"[^\n]+")
_CODE_RUN = re.compile(r"\w+| +")


@dataclass
class _String:
    """The string being read: its closing quote, whether it is an f-string, what stood last."""

    quote: str
    formatted: bool
    empty: bool = True
    escaped: bool = False
    run: int = 0  # of quote characters at the end
    brace: bool = False  # an opening brace stood last
    spec: bool = False  # within the format of a replacement field


class PrefixLexer:
    """Reads source piece by piece; `feed` gives the label after each character.

    Invalid source is read as far as it makes sense; nothing raises.
    """

    def __init__(self) -> None:
        self.string: _String | None = None
        self.strings: list[_String] = []  # around replacement fields
        self.maybe_triple = ""
        self.comment = False
        self.brackets: list[str] = []
        self.blocks: list[tuple[int, str]] = []
        self.word = self.header = self.last = ""
        self.column = self.indent = self.block_bits = 0
        self.line_start = self.logical_start = True
        self.attribute = self.continued = False

    def feed(self, text: str) -> Int32[np.ndarray, " character"]:
        """Labels, as bits in the order of `LOOP`, after each character of the next piece of text."""
        ends, labels, at = [0], [], 0
        while at < len(text):
            run = self._run(text, at)
            end = run.end() if run else at + 1
            self._read(text[at:end])
            labels.append(self.label())
            ends.append(end)
            at = end
        return np.repeat(np.array(labels, dtype=np.int32), np.diff(ends))

    def _run(self, text: str, at: int) -> re.Match | None:
        """Characters that may be read at once, because the state after each is the same."""
        if self.comment:
            return _COMMENT_RUN.match(text, at)
        if self.string:
            plain = self.string.escaped or self.string.brace
            return None if plain else _STRING_RUN.match(text, at)
        return _CODE_RUN.match(text, at)

    def label(self) -> int:
        """The state now."""
        label = self.block_bits
        if self.string:
            label |= _BIT["in_string"]
        elif self.comment:
            label |= _BIT["in_comment"]
        if self.brackets:
            label |= _INNERMOST[self.brackets[-1]]
            label |= _BIT["in_nested_brackets"] if len(self.brackets) > 1 else 0
        label |= _BIT["line_start"] if self.line_start else 0
        return label | (_BIT["attribute"] if self.attribute else 0)

    def _count_blocks(self) -> None:
        """What the open blocks say, which they do until one opens or closes."""
        bits = _BIT["indented"] if self.blocks else 0
        bits |= _BIT["indented_twice"] if len(self.blocks) > 1 else 0
        for _, kind in self.blocks:
            bits |= _BIT.get(kind, 0)
        self.block_bits = bits

    def _read(self, piece: str) -> None:
        if self.comment:
            if piece == "\n":
                self.comment = False
                self._newline()
        elif self.string:
            self._in_string(piece)
        elif self.maybe_triple and piece == self.maybe_triple:
            formatted = self.strings_formatted
            self.string = _String(3 * piece, formatted, empty=False)
            self.maybe_triple = ""
        else:
            self.maybe_triple = ""
            self._in_code(piece)

    strings_formatted = False

    def _in_string(self, piece: str) -> None:
        string = self.string
        # A brace is no letter that a backslash could escape, in raw f-strings or in others.
        escaped = string.escaped and not (string.formatted and piece in "{}")
        string.escaped = False
        if string.brace:
            string.brace = False
            if piece != "{":
                self._open_field(piece)
                return
        elif string.spec and piece == "}":
            string.spec = False
            self.strings.pop()
            self.brackets.pop()
        elif piece == "\\" and not escaped:
            string.escaped = True
        elif piece == "{" and string.formatted:
            string.brace = True
        elif piece == "\n" and len(string.quote) == 1 and not escaped:
            self.string = None  # never closed
            self._newline()
        elif piece == string.quote[0] and not escaped:
            self._quote(string, piece)
            return
        string.empty, string.run = False, 0

    def _quote(self, string: _String, piece: str) -> None:
        string.run += 1
        if string.run < len(string.quote):
            return
        self.string = None
        if len(string.quote) == 1 and string.empty:
            self.maybe_triple, self.strings_formatted = piece, string.formatted
        self.last = piece

    def _open_field(self, piece: str) -> None:
        """The braces before `piece` began a replacement field of an f-string."""
        self.strings.append(self.string)
        self.string.run, self.string.empty = 0, False
        self.string, self.word = None, ""
        self.brackets.append("f")
        self._in_code(piece)

    def _in_code(self, piece: str) -> None:
        if piece[0].isalnum() or piece[0] == "_":
            self._first_of_line()
            self.word += piece
            self.last = piece[-1]
            return
        if piece == "\n":
            self._newline()
            return
        if piece.isspace():
            self._space(piece)
            return
        if piece == "#":
            self._end_word()
            self.comment, self.line_start = True, False
            return
        if piece == ":" and self.brackets and self.brackets[-1] == "f":
            self._end_word()
            self.string = self.strings[-1]
            self.string.spec = True
            return
        self._first_of_line()
        if piece == "\\":
            self.continued = True
        else:
            self._symbol(piece)

    def _symbol(self, piece: str) -> None:
        number = self.word[:1].isdigit()
        prefix = self.word.lower()
        self._end_word()
        if piece in "'\"":
            known = len(prefix) < 3 and set(prefix) <= set("rbuf")
            self.string = _String(piece, known and "f" in prefix)
        elif piece in "([{":
            self.brackets.append(piece)
        elif piece in ")]}":
            self._close(piece)
        self.attribute = piece == "." and not number
        self.last = piece

    def _close(self, piece: str) -> None:
        if self.brackets and self.brackets[-1] == "f" and piece == "}":
            self.brackets.pop()
            self.string = self.strings.pop()
        elif self.brackets and self.brackets[-1] == _CLOSES[piece]:
            self.brackets.pop()

    def _space(self, piece: str) -> None:
        self._end_word()
        if self.line_start:
            for character in piece:
                self.column += 8 - self.column % 8 if character == "\t" else 1

    def _end_word(self) -> None:
        if self.word:
            if not self.header or self.header == "async":
                self.header = self.word
            self.word, self.attribute = "", False

    def _first_of_line(self) -> None:
        """Something that is no space and no comment: leave the blocks that it stands outside of."""
        if self.logical_start:
            if self.blocks and self.blocks[-1][0] >= self.column:
                self.blocks = [block for block in self.blocks if block[0] < self.column]
                self._count_blocks()
            self.indent, self.header = self.column, ""
        self.line_start = self.logical_start = False

    def _newline(self) -> None:
        self._end_word()
        if not self.brackets and not self.continued and not self.logical_start:
            if self.last == ":":
                self.blocks.append((self.indent, _KINDS.get(self.header, "")))
                self._count_blocks()
            self.logical_start, self.last, self.header = True, "", ""
            self.attribute = False
        self.continued = False
        self.line_start, self.column = True, 0


def labels_of(text: str) -> Int32[np.ndarray, " byte"]:
    """Labels of a whole document, one per byte of its UTF-8 form: those of the byte's character."""
    labels = PrefixLexer().feed(text)
    if text.isascii():
        return labels
    sizes = np.array([len(character.encode()) for character in text])
    return np.repeat(labels, sizes).astype(np.int32)
