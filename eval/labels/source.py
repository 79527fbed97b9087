"""Where labels come from, and the labels of every token of a stream."""

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pellucid.eval.labels.collecting import paused
from pellucid.eval.labels.marks import Marks, Projected, project
from pellucid.eval.labels.table import Label, LabelTable
from pellucid.eval.stream import Stream

PIECE = re.compile(r"#\d+$")
"""What a corpus puts behind the name of a file whose pieces are documents."""


class Source(Protocol):
    """Something that labels texts."""

    labels: tuple[Label, ...]
    fingerprint: str
    """changes whenever the labels of a text may change, save with the code in this folder"""

    def marks(self, text: str, name: str) -> Marks | None:
        """The labels of a document by its text and name; None where it has none."""
        ...


def file_of(name: str) -> str:
    """The file that a document is of: `a.py#0001` is a piece of `a.py`."""
    return PIECE.sub("", name)


def texts_of(stream: Stream, token_bytes: Sequence[bytes]) -> list[str]:
    """The text of every document of a stream; bytes that are not UTF-8 become U+FFFD."""
    bounds = zip(stream.offsets[:-1], stream.offsets[1:])
    # The first token of a document is the eot before it.
    raw = [b"".join(token_bytes[t] for t in stream.tokens[a + 1 : b]) for a, b in bounds]
    return [one.decode("utf-8", errors="replace") for one in raw]


def label_stream(stream: Stream, token_bytes: Sequence[bytes], source: Source) -> LabelTable:
    """The labels of a source for every token of a stream, each document labelled as a whole."""
    sizes = np.array([len(raw) for raw in token_bytes], dtype=np.int64)
    texts = texts_of(stream, token_bytes)
    parts = []
    with paused():
        for document, (text, name) in enumerate(zip(texts, stream.names)):
            first, end = stream.offsets[document], stream.offsets[document + 1]
            tokens = sizes[stream.tokens[first:end]]
            tokens[0] = 0  # the eot, whatever bytes the tokenizer gives it
            marks = source.marks(text, name) if len(text.encode()) == tokens.sum() else None
            parts.append(_part(text, tokens, marks, len(source.labels)))
    arrays = [np.concatenate(pieces) for pieces in zip(*parts)]
    return LabelTable(source.labels, *arrays)


def _part(text: str, sizes: np.ndarray, marks: Marks | None, n_labels: int) -> Projected:
    if marks is None:
        nothing = np.zeros((len(sizes), n_labels), bool)
        return Projected(nothing, nothing, nothing, nothing)
    part = project(text, sizes, marks)
    part.valued[0] = False  # the eot
    return part
