"""The labels of the standard library against Python's own tokenizer and parser."""

import sys

import numpy as np
import pytest
from support.told import NOT_TOLD, everything

from pellucid.data.python_source import PythonCore
from pellucid.eval.labels.catalogue import PYTHON
from pellucid.eval.labels.python import python_columns


def disagreements(name: str, text: str) -> list[str]:
    """The first place at which each label differs from what Python says, in words."""
    columns, wrong = python_columns(text), []
    for label, (there, known) in everything(text).items():
        for i in np.flatnonzero((columns[label] != there) & known)[:1]:
            wrong.append(
                f"{name}: {label} at {text[max(0, i - 40) : i + 1]!r} is {columns[label][i]}"
            )
    return wrong


@pytest.mark.parametrize("every", [80, pytest.param(1, marks=pytest.mark.slow)])
def test_the_standard_library_is_read_as_python_reads_it(every):
    wrong, read = [], 0
    for path in PythonCore(PythonCore.Config()).files()[::every]:
        try:
            text = path.read_text(encoding="utf-8").replace("\f", " ")
        except UnicodeDecodeError:
            continue
        wrong += disagreements(path.name, text)
        read += 1
    assert read > 5
    assert wrong == []


EVERY_LABEL = '''"""Doc."""
from a import b as c
import d

class G(object):
    r"""raw"""

    @c.e(1)  # f
    @d
    async def h(self, i: int = 0, *j) -> bool:
        global s
        k = b'\\\\n' if i else [[[(l, self.camelCase) for l in j if l]]]
        for m in j:
            while m == len(k) + \\
                    1:
                s[0] = {m: lambda n=2, o=3: n}
        with d:
            match k:
                case [o]:
                    return h(i, p=not c)
        try:
            pass
        except E:
            if u:
                def v(w):
                    x = 1
                    y = []
                    z = set()
                    AA = None
                    bb = "b"
                    return bb, x, y, z, AA, {i}, w, f"g{x:>{y}}"
'''


def test_a_wrong_label_is_found(monkeypatch):
    """For every label that is told at all: each is on somewhere in this text."""
    text = EVERY_LABEL
    assert disagreements("a", text) == []
    told = everything(text)
    assert set(told) | set(NOT_TOLD) == {label.name for label in PYTHON}
    assert set(told) & set(NOT_TOLD) == set()
    columns, here = python_columns(text), sys.modules[__name__]
    monkeypatch.setattr(here, "everything", lambda _: told)
    for label, (there, known) in told.items():
        assert (there & known).any(), label
        swapped = dict(columns) | {label: columns[label] ^ known}
        monkeypatch.setattr(here, "python_columns", lambda _, s=swapped: s)
        assert disagreements("a", text), label
