"""The labels of the standard library against Python's own tokenizer and parser."""

import sys

import numpy as np
import pytest
from support.told import everything

from pellucid.data.python_source import PythonCore
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


@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.slow)])
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


def test_a_wrong_label_is_found(monkeypatch):
    text = "def f(a):\n    return [b for b in a if b]  # c\n"
    assert disagreements("a", text) == []
    told = everything(text)
    columns = python_columns(text)
    for label, (_there, known) in told.items():
        swapped = dict(columns) | {label: columns[label] ^ known}
        monkeypatch.setattr(sys.modules[__name__], "python_columns", lambda _, s=swapped: s)
        assert bool(disagreements("a", text)) == bool(known.any()), label
