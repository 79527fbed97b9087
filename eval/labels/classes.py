"""The syntax class of every token, for losses that are shown class by class."""

import numpy as np
from jaxtyping import Integer

from pellucid.eval.labels.table import LabelTable

CLASSES = (
    *("keyword", "operator", "bracket", "string", "identifier_first", "identifier_rest"),
    *("layout", "comment", "number", "other"),
)
UNKNOWN = -1
"""Of tokens whose labels are not known, such as those of documents that are no Python."""
NEEDED = (
    *("in_comment", "in_string", "in_number", "keyword", "operator", "bracket_mark", "in_word"),
    *("logical_start", "in_fstring_expression"),
)


def classes(table: LabelTable) -> tuple[tuple[str, ...], Integer[np.ndarray, " token"]]:
    """The names of the classes and the class of each token; `UNKNOWN` where its labels are not.

    A token is of one class, that of its last character: a comment and a string (its literal parts
    and its quotes) before anything else, then numbers, brackets, operators and keywords. A word is
    `identifier_first` where the token begins it. White space at the ends of lines is `layout`.
    UserError where a table lacks a label that decides.
    """
    after = {name: table.after[:, table.index(name)] for name in NEEDED}
    before = {name: table.before[:, table.index(name)] for name in NEEDED}
    mixed = table.mixed[:, table.index("in_word")]
    # A closing quote was in a string before; the first token of a replacement field was, too.
    string = after["in_string"] | before["in_string"] & ~after["in_fstring_expression"]
    rules = (
        ("comment", after["in_comment"]),
        ("string", string),
        ("number", after["in_number"]),
        ("layout", after["logical_start"]),
        ("keyword", after["keyword"]),
        ("identifier_rest", after["in_word"] & before["in_word"] & ~mixed),
        ("identifier_first", after["in_word"]),
        ("operator", after["operator"]),
        ("bracket", after["bracket_mark"]),
    )
    found = np.full(len(table.after), CLASSES.index("other"))
    for name, holds in reversed(rules):
        found[holds] = CLASSES.index(name)
    found[~table.select(names=NEEDED).known] = UNKNOWN
    return CLASSES, found
