"""Labels of Python source, for documents whose name ends in `.py`."""

import hashlib
import platform
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from pellucid.data.python_labels import LOOP, PrefixLexer
from pellucid.eval.labels.bits import BIT
from pellucid.eval.labels.catalogue import PYTHON
from pellucid.eval.labels.context import Context
from pellucid.eval.labels.control import control_columns
from pellucid.eval.labels.marking import HALF
from pellucid.eval.labels.marks import Marks
from pellucid.eval.labels.parsed import parsed_columns

NAMES = tuple(label.name for label in PYTHON)
AT_START = ("line_start", "logical_start", "level_0", "near_start")


def python_columns(text: str) -> dict[str, Bool[np.ndarray, " character"]]:
    """What holds after each character of a Python file, by label; no parser labels if none parse."""
    loop = PrefixLexer().feed(text)
    halves = Context(text).run().halves(len(text))
    columns = {name: (loop >> at) & 1 == 1 for at, name in enumerate(LOOP)}
    for place, name in enumerate(BIT):
        half, bit = divmod(place, HALF)
        columns[name] = (halves[half] >> np.uint64(bit)) & np.uint64(1) == 1
    return columns | parsed_columns(text) | control_columns(text)


class PythonLabels:
    """The whole catalogue."""

    labels = PYTHON

    @property
    def fingerprint(self) -> str:
        """Of the code that labels and of the version of Python whose parser it asks."""
        here = Path(__file__).parent
        files = [*sorted(here.glob("*.py")), here.parents[1] / "data" / "python_labels.py"]
        code = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        return f"python-{'.'.join(platform.python_version_tuple()[:2])}-{code[:16]}"

    def marks(self, text: str, name: str) -> Marks | None:
        """The labels of a Python file; None for other names."""
        if not name.endswith(".py"):
            return None
        marks = Marks.of(python_columns(text), NAMES, len(text))
        for label in AT_START:
            marks.put_start(NAMES.index(label))
        return marks
