"""Labels of Python source, for documents whose name ends in `.py`."""

from pellucid.data.python_labels import LOOP, PrefixLexer
from pellucid.eval.labels.catalogue import PYTHON
from pellucid.eval.labels.marks import Marks


class PythonLabels:
    """The whole catalogue."""

    labels = PYTHON
    fingerprint = "python-1"

    def marks(self, text: str, name: str) -> Marks | None:
        """The labels of a Python file; None for other names."""
        if not name.endswith(".py"):
            return None
        bits = PrefixLexer().feed(text)
        columns = {label: (bits >> at) & 1 == 1 for at, label in enumerate(LOOP)}
        marks = Marks.of(columns, [label.name for label in PYTHON], len(text))
        marks.put_start(LOOP.index("line_start"))
        return marks
