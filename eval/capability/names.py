"""The names in a Python file, by Python's own lexer."""

import io
import keyword
import tokenize

import numpy as np


def names_in(text: str) -> list[tuple[int, str]]:
    """(place of the first character, name) of every identifier; empty where the lexer fails."""
    starts = np.cumsum([0, *(len(line) + 1 for line in text.split("\n"))])
    # A lone carriage return or form feed would make lines that `split("\n")` does not.
    lines = io.StringIO(text, newline="\n").readline
    try:
        return [
            (int(starts[token.start[0] - 1]) + token.start[1], token.string)
            for token in tokenize.generate_tokens(lines)
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
        ]
    except (tokenize.TokenError, SyntaxError):
        return []
