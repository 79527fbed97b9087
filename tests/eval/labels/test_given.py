"""Labels that a user brings, and the sentences that refuse what does not fit."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pellucid.errors import UserError
from pellucid.eval.labels.choose import source_of
from pellucid.eval.labels.given import GivenLabels
from pellucid.eval.labels.table import Label


def function(given):
    def label(text, name):
        return given

    label.families = {"vowel": "dev", "end": "test"}
    return label


def column(source, text, name, label):
    return source.marks(text, name).column(label).tolist()


def test_spans_and_booleans_are_taken():
    source = GivenLabels(
        function({"vowel": [(0, 1), (2, 3)], "end": np.array([0, 0, 1], bool)}), "x"
    )
    assert column(source, "aba", "n", 0) == [True, False, True]
    assert column(source, "aba", "n", 1) == [False, False, True]
    assert [label.family for label in source.labels] == ["dev", "test"]
    assert GivenLabels(function(None), "x").marks("a", "n") is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"vowel": [(0, 9)]}, "label 'vowel' of n: .* within its 3 characters"),
        ({"vowel": [True]}, "label 'vowel' of n"),
        ({"vowel": [(2, 1)]}, "label 'vowel' of n"),
        ({"other": []}, "keys among vowel, end"),
        ([1], "a dictionary with keys among"),
    ],
)
def test_what_does_not_fit_is_refused(given, says):
    with pytest.raises(UserError, match=says):
        GivenLabels(function(given), "x").marks("aba", "n")


def test_a_function_is_found_by_its_name(monkeypatch):
    module = ModuleType("mine")
    module.label = function({"vowel": [(0, 1)]})
    monkeypatch.setitem(sys.modules, "mine", module)
    assert column(source_of("mine:label"), "ab", "n", 0) == [True, False]


def span(label: str, **more) -> dict:
    return {"document": "a", "start": 1, "end": 2, "label": label, **more}


def written(folder: Path, suffix: str, rows: list[dict]) -> str:
    path = folder / f"spans{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_spans_come_from_files(tmp_path, suffix):
    rows = [span("x", family="dev", prefix=None), span("y", family=None, prefix=False)]
    source = source_of(written(tmp_path, suffix, rows))
    assert column(source, "abc", "a", 0) == [False, True, False]
    assert column(source, "abc", "b", 0) == [False, False, False]
    assert [(label.family, label.prefix) for label in source.labels] == [
        ("dev", True),
        ("both", False),
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_spans_without_a_word_on_their_labels_serve_both_splits(tmp_path, suffix):
    (label,) = source_of(written(tmp_path, suffix, [span("x")])).labels
    assert label == Label("x", "given", "both", True)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([span("x", family="dev"), span("x", family="test")], "row 2: family 'test' of label 'x'"),
        ([span("x", prefix=True), span("x", prefix=False)], "row 2: prefix False of label 'x'"),
        ([span("x", prefix="no")], "prefix 'no' of label 'x': true and false"),
        ([span("x", prefix=0)], "prefix 0 of label 'x': true and false"),
        ([span("x", family="train")], "label 'x' has family 'train'"),
        ([], "it has no rows"),
    ],
)
def test_spans_that_contradict_are_refused(tmp_path, rows, says):
    with pytest.raises(UserError, match=says):
        source_of(written(tmp_path, ".jsonl", rows))


def test_a_function_names_the_labels_that_need_what_comes_later():
    label = function({})
    label.lookahead = {"end"}
    assert [one.prefix for one in GivenLabels(label, "x").labels] == [True, False]
    label.lookahead = {"ends"}
    with pytest.raises(UserError, match="lookahead is .*ends.*: a set of names among vowel, end"):
        GivenLabels(label, "x")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("no_such_module:f", "cannot be imported"),
        ("spans.csv", "module:function, .jsonl and .parquet are accepted"),
        ("none.jsonl", "cannot be read"),
    ],
)
def test_a_source_that_is_not_there_is_refused(word, says):
    with pytest.raises(UserError, match=says):
        source_of(word)
