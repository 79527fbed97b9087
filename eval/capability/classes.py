"""What kind of token each position of a stream of Python predicts, by Python's own lexer."""

import io
import keyword
import tokenize
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Integer

from pellucid.eval.stream import Stream

CLASSES = (
    *("keyword", "operator", "bracket", "string", "number", "comment"),
    *("identifier_first", "identifier_rest", "layout", "end_of_text"),
)
"""`layout` is line ends and white space alone; an identifier's rest is tokens within it."""
UNKNOWN = -1
"""In text that the lexer does not read to its end."""

_KINDS = {
    tokenize.STRING: "string",
    tokenize.NUMBER: "number",
    tokenize.COMMENT: "comment",
    # From Python 3.12 the parts of an f-string are tokens of their own.
    **{getattr(tokenize, name): "string" for name in dir(tokenize) if name.startswith("FSTRING_")},
}


def token_classes(
    stream: Stream, texts: Sequence[str], token_bytes: Sequence[bytes]
) -> Integer[np.ndarray, " token"]:
    """The index in `CLASSES` of each token of a stream, or `UNKNOWN`.

    A token is of the class of its first character that is not a space.
    """
    found = np.full(len(stream.tokens), UNKNOWN, dtype=np.int64)
    for document, text in enumerate(texts):
        first, end = stream.offsets[document], stream.offsets[document + 1]
        found[first] = CLASSES.index("end_of_text")
        pieces = [token_bytes[token] for token in stream.tokens[first + 1 : end]]
        states = character_classes(text)
        if states is not None and b"".join(pieces) == text.encode():
            found[first + 1 : end] = _projected(states, text, pieces)
    return found


def character_classes(text: str) -> Integer[np.ndarray, " character"] | None:
    """The class of each character of a text, or None where the lexer stops before its end."""
    found = np.full(len(text), CLASSES.index("layout"), dtype=np.int64)
    starts = np.cumsum([0, *(len(line) + 1 for line in text.split("\n"))])
    try:
        for token, name in _named(text):
            at, end = (int(starts[line - 1]) + column for line, column in (token.start, token.end))
            found[at:end] = CLASSES.index(name)
            if name == "identifier_first":
                found[at + 1 : end] = CLASSES.index("identifier_rest")
    except (tokenize.TokenError, SyntaxError):
        return None
    return found


def names_in(text: str) -> list[tuple[int, str]]:
    """(place of the first character, name) of every identifier; empty where the lexer fails."""
    starts = np.cumsum([0, *(len(line) + 1 for line in text.split("\n"))])
    try:
        return [
            (int(starts[token.start[0] - 1]) + token.start[1], token.string)
            for token, name in _named(text)
            if name == "identifier_first"
        ]
    except (tokenize.TokenError, SyntaxError):
        return []


def _named(text: str) -> Iterator[tuple[tokenize.TokenInfo, str]]:
    # A lone carriage return or form feed would make lines that `split("\n")` does not.
    for token in tokenize.generate_tokens(io.StringIO(text, newline="\n").readline):
        if token.type == tokenize.NAME:
            yield token, "keyword" if keyword.iskeyword(token.string) else "identifier_first"
        elif token.type == tokenize.OP:
            yield token, "bracket" if token.string in "()[]{}" else "operator"
        elif token.type in _KINDS:
            yield token, _KINDS[token.type]


def _projected(states: np.ndarray, text: str, pieces: Sequence[bytes]) -> np.ndarray:
    """Classes of characters to those of tokens, which begin and end between bytes."""
    raw = text.encode()
    widths = [len(character.encode()) for character in text] if len(raw) != len(text) else 1
    by_byte = np.repeat(states, widths)
    blank = np.isin(np.frombuffer(raw, np.uint8), np.frombuffer(b" \t", np.uint8))
    found, at = np.empty(len(pieces), dtype=np.int64), 0
    for i, piece in enumerate(pieces):
        solid = np.flatnonzero(~blank[at : at + len(piece)])
        found[i] = by_byte[at + (int(solid[0]) if len(solid) else 0)]
        at += len(piece)
    return found
