"""Files that a corpus cut into documents, put together again: `a.py#0002` is a piece of `a.py`."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from pellucid.data.splits import SPLITS
from pellucid.eval.stream import Stream

PIECE = re.compile(r"(.+)#(\d{4,})")
"""What a corpus calls the pieces of a plain file, from 0001 on; numbers of rows have no zeros."""
ROWS = (".jsonl", ".parquet")


class Cut(NamedTuple):
    """A text that pieces were cut from, and the first and last character of each by its name."""

    text: str
    places: dict[str, slice]


class Splits(Protocol):
    """Prepared data."""

    def split(self, name: str) -> object:
        """One of `SPLITS`, with `tokens`, `offsets` and `names`."""
        ...


def file_and_number(name: str) -> tuple[str, int] | None:
    """The file that a document is a piece of, and which piece; None where it is none."""
    found = PIECE.fullmatch(name)
    if found is None or found[1].endswith(ROWS):
        return None
    return found[1], int(found[2])


def file_of(name: str) -> str:
    """The file that a document is of, or is a piece of."""
    piece = file_and_number(name)
    return piece[0] if piece else name


def texts_of(stream: Stream, token_bytes: Sequence[bytes]) -> list[str]:
    """The text of every document of a stream; bytes that are not UTF-8 become U+FFFD."""
    bounds = zip(stream.offsets[:-1], stream.offsets[1:])
    return [_text(stream.tokens[a:b], token_bytes) for a, b in bounds]


def beside(data: Splits, stream: Stream, token_bytes: Sequence[bytes]) -> dict[str, str]:
    """The texts, by name, of all pieces of the files that a stream holds pieces of.

    The splits take them from each other, and what a piece stands within is told by those before it.
    """
    files = {piece[0] for piece in map(file_and_number, stream.names) if piece}
    found: dict[str, str] = {}
    for split in map(data.split, SPLITS) if files else ():
        for document, name in enumerate(split.names):
            piece = file_and_number(name)
            if piece and piece[0] in files:
                first, end = split.offsets[document], split.offsets[document + 1]
                found[name] = _text(split.tokens[first:end], token_bytes)
    return found


def _text(tokens: Sequence[int], token_bytes: Sequence[bytes]) -> str:
    # The first token of a document is the eot before it.
    return b"".join(token_bytes[t] for t in tokens[1:]).decode("utf-8", errors="replace")


def joined(texts: Mapping[str, str]) -> dict[str, Cut]:
    """Files from their pieces, from the first piece to the last before one that is not there."""
    numbered: dict[str, dict[int, str]] = {}
    for name in texts:
        if piece := file_and_number(name):
            numbered.setdefault(piece[0], {})[piece[1]] = name
    found = {}
    for file, names in numbered.items():
        parts: list[str] = []
        places, size = {}, 0
        while len(parts) + 1 in names:
            name = names[len(parts) + 1]
            parts.append(texts[name])
            places[name] = slice(size, size + len(texts[name]))
            size = places[name].stop
        found[file] = Cut("".join(parts), places)
    return found
