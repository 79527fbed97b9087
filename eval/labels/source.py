"""Where labels come from, and the labels of every token of a stream."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from pellucid.eval.labels.collecting import paused
from pellucid.eval.labels.marks import Marks, Projected, project
from pellucid.eval.labels.pieces import file_of, joined, texts_of
from pellucid.eval.labels.table import Label, LabelTable
from pellucid.eval.stream import Stream


class Source(Protocol):
    """Something that labels texts."""

    labels: tuple[Label, ...]
    fingerprint: str
    """changes whenever the labels of a text may change, save with the code in this folder"""
    whole_files: bool
    """whether a piece of a file is labelled within the file, and not as a text of its own"""

    def marks(self, text: str, name: str) -> Marks | None:
        """The labels of a document by its text and name; None where it has none."""
        ...


def label_stream(
    stream: Stream,
    token_bytes: Sequence[bytes],
    source: Source,
    beside: Mapping[str, str] | None = None,
) -> LabelTable:
    """The labels of a source for every token of a stream, each document labelled as a whole.

    A piece of a file has the labels of its place in the file, if the source reads whole files; the
    pieces before it are in the stream or, as texts by name, `beside` it. Without them it has none.
    """
    sizes = np.array([len(raw) for raw in token_bytes], dtype=np.int64)
    texts = texts_of(stream, token_bytes)
    parts = []
    with paused():
        marks_of = _maker(source, dict(zip(stream.names, texts)) | dict(beside or {}))
        for document, (text, name) in enumerate(zip(texts, stream.names)):
            first, end = stream.offsets[document], stream.offsets[document + 1]
            tokens = sizes[stream.tokens[first:end]]
            tokens[0] = 0  # the eot, whatever bytes the tokenizer gives it
            marks = marks_of(text, name) if len(text.encode()) == tokens.sum() else None
            parts.append(_part(text, tokens, marks, len(source.labels)))
    arrays = [np.concatenate(pieces) for pieces in zip(*parts)]
    return LabelTable(source.labels, *arrays)


def _maker(source: Source, texts: Mapping[str, str]) -> Callable[[str, str], Marks | None]:
    """What gives the marks of a document by its text and name."""
    if not source.whole_files:
        return source.marks
    cuts, made = joined(texts), {}

    def marks_of(text: str, name: str) -> Marks | None:
        file = file_of(name)
        if file == name:
            return source.marks(text, name)
        cut = cuts[file]
        if name not in cut.places:
            return None
        if file not in made:
            made[file] = source.marks(cut.text, file)
        return made[file] and made[file].within(cut.places[name])

    return marks_of


def _part(text: str, sizes: np.ndarray, marks: Marks | None, n_labels: int) -> Projected:
    if marks is None:
        nothing = np.zeros((len(sizes), n_labels), bool)
        return Projected(nothing, nothing, nothing, nothing)
    part = project(text, sizes, marks)
    part.valued[0] = False  # the eot
    return part
