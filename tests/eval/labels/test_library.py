"""The labels of the standard library against Python's own tokenizer."""

import io
import tokenize

import numpy as np
import pytest

from pellucid.data.python_source import PythonCore
from pellucid.eval.labels.python import python_columns


def told(text: str) -> dict[str, np.ndarray]:
    """Numbers and exact depths of brackets, as the tokenizer says; f-strings left out."""
    lines = text.splitlines(keepends=True)
    starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])])
    number, depth = np.zeros(len(text), bool), np.zeros(len(text) + 1, int)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.ENDMARKER, tokenize.NEWLINE, tokenize.NL):
            continue
        first = int(starts[token.start[0] - 1] + token.start[1])
        if token.type == tokenize.NUMBER:
            number[first : first + len(token.string)] = True
        elif token.type == tokenize.OP and token.string in "([{":
            depth[first:] += 1
        elif token.type == tokenize.OP and token.string in ")]}":
            depth[first:] -= 1
    return {"in_number": number, "depth_1": depth[:-1] == 1, "depth_3": depth[:-1] == 3}


@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_the_standard_library_is_read_as_python_reads_it(every):
    wrong, read = [], 0
    for path in PythonCore(PythonCore.Config()).files()[::every]:
        try:
            text = path.read_text(encoding="utf-8").replace("\f", " ")
        except UnicodeDecodeError:
            continue
        columns, read = python_columns(text), read + 1
        known = ~columns["in_fstring"] & ~columns["in_fstring_expression"]
        for name, there in told(text).items():
            differ = np.flatnonzero((columns[name] != there) & known)
            # The dot before a number shows what it is only with the digit behind it.
            differ = [i for i in differ if text[i] != "." or name != "in_number"]
            wrong += [
                f"{path.name}: {name} at {text[max(0, i - 30) : i + 1]!r}" for i in differ[:1]
            ]
    assert read > 5
    assert wrong == []
