"""Which source of labels a stream is given, and its labels or the reason why there are none."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pellucid.eval.labels import kept
from pellucid.eval.labels.english import EnglishLabels
from pellucid.eval.labels.given import from_file, from_function
from pellucid.eval.labels.pieces import file_of
from pellucid.eval.labels.python import PythonLabels
from pellucid.eval.labels.source import Source, label_stream
from pellucid.eval.labels.table import LabelTable
from pellucid.eval.stream import Stream

BUILT_IN: dict[str, Callable[[], Source]] = {"python": PythonLabels, "english": EnglishLabels}
ENDINGS = {".py": "python", ".txt": "english", ".md": "english"}
"""Built-in labels by the names of documents; the first that fits any of them is taken."""


def labels_of_stream(
    stream: Stream, token_bytes: Sequence[bytes], given: str | None = None
) -> LabelTable | str:
    """The labels of every token of a stream, or the reason in words why there are none.

    `given` names a source; without it the names of the documents tell which one fits.
    """
    return labelling(stream, token_bytes, given)()


def labelling(
    stream: Stream,
    token_bytes: Sequence[bytes],
    given: str | None = None,
    *,
    data: str | None = None,
    split: str = "",
    beside: Callable[[], Mapping[str, str]] = dict,
) -> Callable[[], LabelTable | str]:
    """What makes the labels of a stream when called; UserError at once for a bad source.

    With the fingerprint of the prepared `data` that the stream is of, they are kept in its cache.
    `beside` gives the texts of pieces that are in other splits.
    """
    source = _by_ending(stream.names) if given is None else source_of(given)

    def make() -> LabelTable | str:
        if source is None:
            return f"no document has a name that ends in {' or '.join(ENDINGS)}"
        path = None if data is None else kept.place(stream, source, data=data, split=split)
        table = kept.read(path, source, tokens=len(stream.tokens)) if path else None
        if table is None:
            table = label_stream(stream, token_bytes, source, beside())
            kept.keep(path, table) if path else None
        return table if table.valued.any() else "no document of the stream could be labelled"

    return make


def source_of(word: str) -> Source:
    """The source that a user names: python, english, module:function, or a file of spans."""
    if word in BUILT_IN:
        return BUILT_IN[word]()
    return from_function(word) if ":" in word else from_file(Path(word))


def _by_ending(names: Sequence[str]) -> Source | None:
    for ending, source in ENDINGS.items():
        if any(file_of(name).endswith(ending) for name in names):
            return BUILT_IN[source]()
    return None
