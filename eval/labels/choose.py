"""Which source of labels a stream is given, and its labels or the reason why there are none."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pellucid.eval.labels.english import EnglishLabels
from pellucid.eval.labels.given import from_file, from_function
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
    source = _by_ending(stream.names) if given is None else source_of(given)
    if source is None:
        return f"no document has a name that ends in {' or '.join(ENDINGS)}"
    table = label_stream(stream, token_bytes, source)
    return table if table.valued.any() else "no document of the stream could be labelled"


def source_of(word: str) -> Source:
    """The source that a user names: python, english, module:function, or a file of spans."""
    if word in BUILT_IN:
        return BUILT_IN[word]()
    return from_function(word) if ":" in word else from_file(Path(word))


def _by_ending(names: Sequence[str]) -> Source | None:
    for ending, source in ENDINGS.items():
        if any(name.endswith(ending) for name in names):
            return BUILT_IN[source]()
    return None
