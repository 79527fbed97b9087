"""Labels of plain English text, by its marks and its spelling; a prefix decides all of them."""

import re

import numpy as np
from jaxtyping import Bool

from pellucid.eval.labels.marks import Marks
from pellucid.eval.labels.table import Label

GRAM = 3
WORD = re.compile(r"\w+")
SENTENCE_END = re.compile(r"[.!?][\"'”’)]*\s+|\n[ \t]*\n")
SPACE_BEHIND = re.compile(r"[.!?][\"'”’)]*(\s+)")
OPENS = "“"
ITEM = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)])[ \t][^\n]*", re.MULTILINE)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_MEANINGS = {
    "in_quotes": ("dev", "between double quotes, straight or curly, in one paragraph"),
    "in_parenthesis": ("test", "between round brackets, in one paragraph"),
    "first_word": ("dev", "in the first word of a sentence"),
    "sentence_ended": ("test", "in the space behind the mark that ends a sentence"),
    "capitalised": ("dev", "in a word that begins with a capital"),
    "all_capitals": ("test", "in a word that has two capitals or more and nothing else so far"),
    "in_list_item": ("dev", "in a line that begins with a bullet or a number"),
    "in_digits": ("test", "in a number"),
    "repeated_word": ("dev", "the word so far was in the text before"),
    "repeated_trigram": ("test", "the last three words, this one so far, were in the text before"),
    "after_clause_colon": ("dev", "behind a colon, to the end of its sentence"),
}
ENGLISH = (
    *(Label(name, "english", family, True, says) for name, (family, says) in _MEANINGS.items()),
    Label("last_word", "english", "test", False, "in the last word of a sentence"),
)


def english_columns(text: str) -> dict[str, Bool[np.ndarray, " character"]]:
    """What holds after each character of a text, by label."""
    columns = {label.name: np.zeros(len(text), bool) for label in ENGLISH}
    _spans(text, columns)
    _words(text, columns)
    _sentences(text, columns)
    return columns


class EnglishLabels:
    """Built-in labels of documents of any name."""

    labels = ENGLISH
    fingerprint = "english"
    whole_files = False

    def marks(self, text: str, name: str) -> Marks | None:
        """The labels of a text."""
        return Marks.of(english_columns(text), [label.name for label in ENGLISH], len(text))


def _spans(text: str, columns: dict[str, np.ndarray]) -> None:
    for match in ITEM.finditer(text):
        # The space behind the bullet shows that it is one.
        shown = match.start() + re.match(r"[ \t]*\S+[ \t]", match[0]).end() - 1
        columns["in_list_item"][shown : match.end()] = True
    for match in NUMBER.finditer(text):
        columns["in_digits"][match.start() : match.end()] = _is_digit(match[0])
    quoted, depth, start = False, 0, 0
    for match in re.finditer(r"[\"“”()]|\n[ \t]*\n", text):
        mark, here = match[0], match.end() - 1
        columns["in_quotes"][start:here] = quoted
        columns["in_parenthesis"][start:here] = depth > 0
        start = here
        if mark[0] == "\n":
            quoted, depth = False, 0
        elif mark in "()":
            depth = max(0, depth + (1 if mark == "(" else -1))
        else:
            quoted = mark == OPENS or (mark == '"' and not quoted)
    columns["in_quotes"][start:] = quoted
    columns["in_parenthesis"][start:] = depth > 0


def _is_digit(text: str) -> list[bool]:
    return [character.isdigit() for character in text]


def _words(text: str, columns: dict[str, np.ndarray]) -> None:
    seen: set[str] = set()
    grams: set[tuple[str, ...]] = set()
    last: tuple[str, ...] = ()
    for match in WORD.finditer(text):
        start, word = match.start(), match[0]
        columns["capitalised"][start : match.end()] = word[0].isupper()
        for size in range(1, len(word) + 1):
            at, so_far = start + size - 1, word[:size].lower()
            columns["all_capitals"][at] = (
                size > 1 and word[:size].isupper() and word[:size].isalpha()
            )
            columns["repeated_word"][at] = so_far in seen
            columns["repeated_trigram"][at] = (*last, so_far) in grams
        seen.add(word.lower())
        grams.add((*last, word.lower()))
        last = (*last, word.lower())[1 - GRAM :]


def _sentences(text: str, columns: dict[str, np.ndarray]) -> None:
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    for start, end in zip([0, *ends], [*ends, len(text)]):
        words = list(WORD.finditer(text, start, end))
        if not words:
            continue
        columns["first_word"][words[0].start() : words[0].end()] = True
        columns["last_word"][words[-1].start() : words[-1].end()] = True
        colon = text.find(": ", start, end)
        if colon >= 0:
            columns["after_clause_colon"][colon + 1 : end] = True
    for match in SPACE_BEHIND.finditer(text):
        columns["sentence_ended"][match.start(1) : match.end()] = True
