"""Controls: what a text's own spelling and places say, which no unit deserves credit for."""

import re

import numpy as np
from jaxtyping import Bool

from pellucid.eval.labels.words import KEYWORDS

OPERATORS = "+-*/%@&|^~<>=!:.,;"
FAR_COLUMN, NEAR = 40, 500
WORD = re.compile(r"\w+")
CAMEL = re.compile(r"[a-z]\w*?[A-Z]")


def control_columns(text: str) -> dict[str, Bool[np.ndarray, " character"]]:
    """Columns of the controls: of words by their spelling, of marks, of places in line and text."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    columns = {name: np.zeros(len(text), bool) for name in ("keyword", "camel_case", "in_word")}
    for match in WORD.finditer(text):
        start, end = match.span()
        columns["in_word"][start:end] = True
        columns["keyword"][end - 1] = match[0] in KEYWORDS
        camel = CAMEL.search(match[0])
        if camel:
            columns["camel_case"][start + camel.end() - 1 : end] = True
    columns["operator"] = np.isin(codes, [ord(c) for c in OPERATORS])
    columns["bracket_mark"] = np.isin(codes, [ord(c) for c in "()[]{}"])
    places = np.arange(len(text))
    newlines = np.where(codes == ord("\n"), places + 1, 0)
    line = np.concatenate([[0], np.maximum.accumulate(newlines)[:-1]]) if len(text) else places
    columns["column_40"] = places - line >= FAR_COLUMN
    columns["near_start"] = places < NEAR
    return columns
