"""Labels of Python source, for documents whose file's name ends in `.py`."""

import numpy as np
from jaxtyping import Bool

from pellucid.data.python_labels import LOOP, PrefixLexer
from pellucid.eval.labels.bits import BIT
from pellucid.eval.labels.catalogue import PYTHON
from pellucid.eval.labels.context import Context
from pellucid.eval.labels.control import control_columns
from pellucid.eval.labels.marks import Marks
from pellucid.eval.labels.parsed import parsed_columns
from pellucid.eval.labels.pieces import file_of

PLACE = {label.name: place for place, label in enumerate(PYTHON)}
AT_START = ("line_start", "logical_start", "level_0", "near_start")


def python_columns(text: str) -> dict[str, Bool[np.ndarray, " character"]]:
    """What holds after each character of a Python file, by label; no parser labels if none parse."""
    marks = python_marks(text)
    return {name: marks.column(at) for name, at in PLACE.items() if marks.valued[at]}


def python_marks(text: str) -> Marks:
    """The labels of a Python file, in the order of the catalogue: `LOOP`, those of `BIT`, others."""
    marks = Marks(len(text), len(PYTHON))
    marks.bits[:] = Context(text).run().words(len(text), shift=len(LOOP))
    marks.bits[:, 0] |= PrefixLexer().feed(text).astype(np.uint64)
    columns = parsed_columns(text) | control_columns(text)
    for name, place in PLACE.items():
        if name in columns:
            marks.put(place, columns[name])
        elif place >= len(LOOP) + len(BIT):
            marks.valued[place] = False
    for name in AT_START:
        marks.put_start(PLACE[name])
    return marks


class PythonLabels:
    """The whole catalogue."""

    labels = PYTHON

    fingerprint = "python"
    whole_files = True

    def marks(self, text: str, name: str) -> Marks | None:
        """The labels of a Python file; None for other names."""
        return python_marks(text) if file_of(name).endswith(".py") else None
