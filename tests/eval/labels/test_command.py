"""`pellucid eval RUN --labels …`: every kind of source, on a run that was trained on plain text."""

import json

import numpy as np
import pytest

from pellucid import cli
from pellucid.errors import EXIT_OK, EXIT_USER
from pellucid.eval import suite as suites
from pellucid.eval.concepts import CONCEPTS
from pellucid.eval.score import Score
from pellucid.eval.suite import QUICK, Metric

WORDS = [
    *("tiny", "data.vocab_size=300", "context=32", "n_layers=1", "d_model=16"),
    *("attention.n_heads=2", "mlp.width=32", "mlp.k=4"),
    *("train.steps=1", "train.batch=2", "train.eval_every=1", "train.eval_tokens=64"),
]


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    """A run of one step on a book that is cut into pieces."""
    folder = tmp_path_factory.mktemp("book")
    rng = np.random.default_rng(0)
    words = ["He said", '"Stop"', "(or 12)", "and Mary went", "home.", "\n", "THE END."]
    book = folder / "book.txt"
    book.write_text("\n".join(" ".join(rng.choice(words, 12)) for _ in range(2000)))
    run = folder / "run"
    data = ["data=files", f"data.path={book}", "data.val_fraction=0.3"]
    assert cli.main(["train", *data, *WORDS, f"run={run}"]) == EXIT_OK
    return run


@pytest.fixture
def told(monkeypatch):
    """What the labels of an evaluation were; one metric is all that it takes."""
    tables = []

    def look(bench) -> list[Score]:
        tables.append(bench.labels)
        flags = ("no interval: one",)
        return [Score(metric="look", value=1.0, n=1, seconds=0.0, tokens=1, flags=flags)]

    for name in list(suites.METRICS):
        monkeypatch.delitem(suites.METRICS, name)
    monkeypatch.setitem(suites.METRICS, "look", Metric(look, QUICK))
    return tables


def test_english_labels_of_a_book(text_run, told, capsys):
    assert cli.main(["eval", str(text_run), "--labels", "english"]) == EXIT_OK
    assert cli.main(["eval", str(text_run)]) == EXIT_OK
    named, chosen = told
    assert {label.group for label in named.labels} == {"english"}
    for name in ("in_quotes", "in_parenthesis", "in_digits", "all_capitals"):
        assert 0 < named.after[:, named.index(name)].mean() < 1, name
    # The pieces of a .txt are English when nothing is said.
    np.testing.assert_array_equal(named.after, chosen.after)


def test_labels_of_a_function(text_run, told, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "marys.py").write_text(
        "import re\n\ndef mary(text, name):\n"
        "    return {'mary': [m.span() for m in re.finditer('Mary', text)]}\n\n"
        "mary.families = {'mary': 'dev'}\n"
    )
    assert cli.main(["eval", str(text_run), "--labels", "marys:mary"]) == EXIT_OK
    (table,) = told
    assert table.names == ("mary",) and table.families == ("dev",)
    assert 0 < table.after.mean() < 0.3


def test_labels_of_another_split_are_skipped_and_the_rest_is_scored(
    text_run, told, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    span = {"document": "book.txt#0001", "start": 0, "end": 9, "label": "l", "family": "test"}
    (tmp_path / "spans.jsonl").write_text(json.dumps(span))
    coverage = CONCEPTS["concept_coverage"].measure
    monkeypatch.setitem(suites.METRICS, "concept_coverage", Metric(coverage, QUICK))
    assert cli.main(["eval", str(text_run), "--labels", "spans.jsonl"]) == EXIT_OK
    scores = {s["metric"]: s for s in json.loads((text_run / "scores.json").read_text())["scores"]}
    assert scores["look"]["value"] == 1.0 and scores["concept_coverage"]["value"] is None
    assert "none of 1 labels is of the family 'dev'" in scores["concept_coverage"]["flags"][0]


@pytest.mark.parametrize(
    ("word", "fragment"),
    [
        ("nowhere.jsonl", "nowhere.jsonl cannot be read"),
        ("bad.jsonl", "row 1: document, start, end, label are needed"),
        ("broken.jsonl", "cannot be read"),
        ("words.csv", "module:function, .jsonl and .parquet are accepted"),
        ("no_such_module:f", "cannot be imported"),
        ("os:getcwd", "has no families"),
    ],
)
def test_a_bad_source_is_one_sentence(
    text_run, told, capsys, monkeypatch, tmp_path, word, fragment
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"document": "a"}\n')
    (tmp_path / "broken.jsonl").write_text("{")
    capsys.readouterr()
    assert cli.main(["eval", str(text_run), "--labels", word]) == EXIT_USER
    _out, err = capsys.readouterr()
    assert err.startswith("pellucid: ") and err.count("\n") == 1 and fragment in err
    assert told == []
