"""Controls: what a text's own spelling and places say, which no unit deserves credit for."""

import re

import numpy as np
from jaxtyping import Bool, UInt32

from pellucid.eval.labels.words import KEYWORDS

OPERATORS = "+-*/%@&|^~<>=!:.,;"
FAR_COLUMN, NEAR = 40, 500
WORD = re.compile(r"\w+")
ASCII = 128
_IN_WORD = np.array([bool(WORD.match(chr(code))) for code in range(ASCII)])
_OPERATOR = np.array([chr(code) in OPERATORS for code in range(ASCII)])
_BRACKET = np.array([chr(code) in "()[]{}" for code in range(ASCII)])


def control_columns(text: str) -> dict[str, Bool[np.ndarray, " character"]]:
    """Columns of the controls: of words by their spelling, of marks, of places in line and text."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    in_word = _in_word(codes)
    places = np.arange(len(text))
    line = np.append(0, _last(codes == ord("\n"), places + 1, 0))[: len(text)]
    return {
        "keyword": _keyword(text, in_word),
        "operator": _looked_up(_OPERATOR, codes),
        "bracket_mark": _looked_up(_BRACKET, codes),
        "camel_case": _camel_case(codes, in_word, places),
        "in_word": in_word,
        "column_40": places - line >= FAR_COLUMN,
        "near_start": places < NEAR,
    }


def _looked_up(
    table: Bool[np.ndarray, " code"], codes: UInt32[np.ndarray, " character"]
) -> Bool[np.ndarray, " character"]:
    """What a table says of ASCII; False of other characters."""
    return table[np.minimum(codes, ASCII - 1)] & (codes < ASCII)


def _in_word(codes: UInt32[np.ndarray, " character"]) -> Bool[np.ndarray, " character"]:
    found = _looked_up(_IN_WORD, codes)
    others = np.flatnonzero(codes >= ASCII)
    kinds, back = np.unique(codes[others], return_inverse=True)
    found[others] = np.array([bool(WORD.match(chr(c))) for c in kinds], bool)[back]
    return found


def _last(there: Bool[np.ndarray, " character"], values: np.ndarray, before: int) -> np.ndarray:
    """The value at the last place so far that is there."""
    return np.maximum.accumulate(np.where(there, values, before))


def _keyword(text: str, in_word: Bool[np.ndarray, " character"]) -> Bool[np.ndarray, " character"]:
    """The last character of each keyword."""
    ends = np.flatnonzero(in_word & ~np.append(in_word[1:], False))
    found = np.zeros(len(text), bool)
    found[ends] = [word in KEYWORDS for word in WORD.findall(text)]
    return found


def _camel_case(
    codes: np.ndarray, in_word: Bool[np.ndarray, " character"], places: np.ndarray
) -> Bool[np.ndarray, " character"]:
    """From a word's first capital behind a small letter to its end."""
    begins = in_word & ~np.append(False, in_word[:-1])[: len(in_word)]
    start = _last(begins, places, 0)
    small = _last((codes >= ord("a")) & (codes <= ord("z")), places, -1)
    humps = (codes >= ord("A")) & (codes <= ord("Z")) & (small >= start)
    return in_word & (_last(humps, places, -1) >= start)
