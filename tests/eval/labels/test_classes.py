"""Every token has the syntax class of what it is."""

import numpy as np

from pellucid.eval.labels.classes import classes
from pellucid.eval.labels.python import PythonLabels
from pellucid.eval.labels.source import label_stream
from pellucid.eval.stream import Stream


def test_tokens_are_of_the_class_of_what_they_are():
    pieces = [
        "if",
        " s",
        "elf",
        " foo",
        "(",
        "(",
        "1",
        ")",
        ")",
        ":",
        "\n",
        "  ",
        "x",
        " =",
        " 'a",
        "b'",
        " # c",
        "\n",
        "f'",
        "a {",
        "foo",
        "+",
        "1",
        ":>3",
        "}'",
    ]
    stream = Stream(
        tokens=np.array([0, *range(1, len(pieces) + 1)]),
        offsets=np.array([0, len(pieces) + 1]),
        names=["a.py"],
        doc_bytes=np.array([sum(map(len, pieces))]),
        eot=0,
        complete=True,
    )
    table = label_stream(stream, [b"", *(p.encode() for p in pieces)], PythonLabels())
    names, found = classes(table)
    first, rest = "identifier_first", "identifier_rest"
    expected = ["keyword", first, rest, first, "bracket", "bracket", "number", "bracket", "bracket"]
    expected += ["operator", "layout", "layout", first, "operator", "string", "string", "comment"]
    expected += ["layout", "string", "string", first, "operator", "number", "string", "string"]
    assert found[0] == -1
    assert [names[c] for c in found[1:]] == expected
