"""Pieces of a file have the labels of their places in it, whatever they were cut through."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pellucid.data import CORPORA, DataConfig, prepare
from pellucid.data.python_labels import LOOP
from pellucid.data.text_files import pieces
from pellucid.eval.labels import label_stream
from pellucid.eval.labels.english import EnglishLabels
from pellucid.eval.labels.pieces import beside, file_of, joined
from pellucid.eval.labels.python import PythonLabels
from pellucid.eval.stream import Stream, sample

BYTES = [b"", *(bytes([i]) for i in range(1, 256))]
FILE = (
    "class A:\n    def f(self, b):\n"
    + '        """Of f.\n\n'
    + "        It's a line (as are others.\n" * 90
    + '        """\n'
    + "        b = [\n"
    + "            1,\n" * 200
    + "        ]\n        return b  # é\n" * 40
)
"""Cut within a docstring, within a list, and within a function."""
PIECES = {one.name: one.text for one in pieces("a.py", FILE, {})}


def stream_of(texts: dict[str, str]) -> Stream:
    laid = [[0, *text.encode()] for text in texts.values()]
    return Stream(
        tokens=np.concatenate(laid),
        offsets=np.cumsum([0, *map(len, laid)]),
        names=list(texts),
        doc_bytes=np.array([len(one) - 1 for one in laid]),
        eot=0,
        complete=True,
    )


def tables(texts, source=None, **about):
    """The four tables of every document, without its eot."""
    stream = stream_of(texts)
    found = label_stream(stream, BYTES, source or PythonLabels(), **about)
    kept = [getattr(found, name) for name in ("after", "before", "mixed", "valued")]
    bounds = zip(stream.names, stream.offsets, stream.offsets[1:])
    return {name: np.stack([one[a + 1 : b] for one in kept]) for name, a, b in bounds}


def test_the_pieces_together_have_the_labels_of_the_file():
    assert len(PIECES) > 3
    whole = tables({"a.py": FILE})["a.py"]
    found = tables(PIECES)
    np.testing.assert_array_equal(np.concatenate(list(found.values()), axis=1), whole)
    alone = tables({"b.py": PIECES["a.py#0002"]})["b.py"]
    assert (alone != found["a.py#0002"]).any()


def test_pieces_of_other_splits_tell_what_a_piece_stands_within():
    second = {"a.py#0002": PIECES["a.py#0002"]}
    found = tables(second, beside=PIECES)["a.py#0002"]
    np.testing.assert_array_equal(found, tables(PIECES)["a.py#0002"])
    # It is within a docstring, and so says the label that the piece alone does not tell.
    docstring = PythonLabels.labels.index(
        next(x for x in PythonLabels.labels if x.name == "in_docstring")
    )
    assert found[0, :20, docstring].all()


def test_what_is_not_told_is_not_known():
    texts = {name: PIECES[name] for name in ("a.py#0001", "a.py#0003")}
    found = tables(texts)
    valued = {name: table[3].any() for name, table in found.items()}
    assert valued == {"a.py#0001": True, "a.py#0003": False}


def test_other_sources_read_a_piece_as_a_text_of_its_own():
    text = {"a.txt#0007": "He said (no)."}
    alone = tables({"a.txt": "He said (no)."}, EnglishLabels())["a.txt"]
    np.testing.assert_array_equal(tables(text, EnglishLabels())["a.txt#0007"], alone)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.py#0012", "a.py"),
        ("b/a.py#12345", "b/a.py"),
        ("a.jsonl#0012", "a.jsonl#0012"),
        ("a.py#12", "a.py#12"),
        ("a.py", "a.py"),
    ],
)
def test_names_tell_pieces_from_rows(name, file):
    assert file_of(name) == file


def test_all_splits_are_read_for_pieces_and_only_then():
    streams = [stream_of({n: PIECES[n]}) for n in ("a.py#0001", "a.py#0003", "a.py#0002")]
    streams[0] = stream_of({"c.py": "x", "d.py#0001": "y", "a.py#0001": PIECES["a.py#0001"]})
    splits = dict(zip(("train", "val", "test"), streams))
    found = beside(SimpleNamespace(split=splits.__getitem__), streams[2], BYTES)
    assert found == {name: PIECES[name] for name in ("a.py#0001", "a.py#0002", "a.py#0003")}
    assert joined(found)["a.py"].text == "".join(found[name] for name in sorted(found))
    nothing = SimpleNamespace(split=None)
    assert beside(nothing, replace(streams[2], names=["a.py"]), BYTES) == {}


def test_scores_and_training_are_told_the_same_of_a_file(tmp_path):
    """What training reads beside the tokens are the labels of the whole file, cut with it."""
    (tmp_path / "long.py").write_text(FILE.replace("é", "e"))
    corpus = CORPORA["files"].Config(path=str(tmp_path / "long.py"), labels="loop")
    data = prepare(DataConfig(corpus=corpus, vocab_size=300, val_fraction=0.3), progress=False)
    split, token_bytes = data.split("val"), data.tokenizer.token_bytes
    stream = sample(split, eot=data.tokenizer.eot, tokens=None, seed=0)
    others = beside(data, stream, token_bytes)
    assert len(others) > stream.n_documents
    table = label_stream(stream, token_bytes, PythonLabels(), others)
    bits = np.asarray(split.side["labels"])
    for place, name in enumerate(LOOP):
        known = table.valued[:, table.index(name)]
        assert known.sum() == (bits >= 0).sum() > 100
        np.testing.assert_array_equal(
            table.after[known, table.index(name)], (bits[known] >> place) & 1 == 1, name
        )
