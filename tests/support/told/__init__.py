"""What Python's own tokenizer and parser say of a file, by the names of labels.

Each answer is a column of booleans over characters, and beside it the characters it speaks of. Left
out are what depends on how far a word has been read, what a prefix cannot tell as the whole file
does (the patterns of `match`, the first mark of `==`), and for all labels but their own f-strings,
which versions of Python cut up differently.
"""

from support.told.binding import parameters, scopes
from support.told.blocks import blocks, comprehensions, decorated, lambdas
from support.told.brackets import brackets, last_thing, purposes
from support.told.expressions import clauses, parsed, values
from support.told.file import Answers, Told
from support.told.fstrings import APART, LABELS, fstrings
from support.told.layout import backslashes, beginnings, colons, levels, lines
from support.told.lexical import characters, lexical, spelling, strings
from support.told.names import decorators, names

PARTS = (
    *(strings, lexical, spelling, characters, brackets, purposes, last_thing),
    *(levels, lines, beginnings, colons, backslashes),
    *(blocks, decorated, lambdas, comprehensions),
    *(names, decorators, parameters, scopes, clauses, values, parsed),
    *((fstrings,) if APART else ()),
)
NOT_TOLD = () if APART else LABELS
"""Labels of which nothing is said: up to Python 3.11 an f-string is one token, and its nodes have no
places of their own. They have cases written by hand."""


def everything(text: str) -> Answers:
    """All answers about a file."""
    told, answers = Told(text), {}
    for part in PARTS:
        answers |= part(told)
    return answers
