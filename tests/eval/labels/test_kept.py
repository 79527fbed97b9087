"""Labels of a stream are made once, and again when anything that they come of changes."""

import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from pellucid.eval.labels import choose, kept
from pellucid.eval.labels.given import from_function
from pellucid.eval.labels.python import PythonLabels
from pellucid.eval.stream import Stream

PIECES = [b"", *(bytes([i]) for i in range(1, 256))]
TEXTS = ("def f(a):\n    return 'b'\n", "x = [1, 2]  # c\n")
ABOUT = {"data": "f00d", "split": "val"}


def stream_of(*texts: str, names=("a.py", "b.py")) -> Stream:
    laid = [[0, *text.encode()] for text in texts]
    return Stream(
        tokens=np.concatenate(laid),
        offsets=np.cumsum([0, *map(len, laid)]),
        names=list(names)[: len(texts)],
        doc_bytes=np.array([len(text.encode()) for text in texts]),
        eot=0,
        complete=True,
    )


@pytest.fixture(autouse=True)
def counted(monkeypatch, tmp_path):
    """A cache of its own, and the names of the documents that were labelled."""
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path))
    seen, marks = [], PythonLabels.marks
    monkeypatch.setattr(
        PythonLabels, "marks", lambda self, *a: seen.append(a[1]) or marks(self, *a)
    )
    return seen


def labelled(stream, **about):
    return choose.labelling(stream, PIECES, **ABOUT | about)()


def same(one, other) -> None:
    assert one.labels == other.labels
    for name in kept.TABLES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def kept_files(tmp_path):
    return sorted((tmp_path / "tokens" / "labels").iterdir())


def test_a_second_evaluation_reads_what_the_first_made(counted, tmp_path):
    first, second = labelled(stream_of(*TEXTS)), labelled(stream_of(*TEXTS))
    assert counted == ["a.py", "b.py"]
    same(first, second)
    same(first, choose.labels_of_stream(stream_of(*TEXTS), PIECES))
    assert first.after.any() and not first.after.all()
    assert len(kept_files(tmp_path)) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda: labelled(stream_of(*TEXTS), data="beef"),
        lambda: labelled(stream_of(*TEXTS), split="test"),
        lambda: labelled(stream_of(*TEXTS[::-1])),
        lambda: labelled(stream_of(TEXTS[0])),
        lambda: labelled(stream_of(*TEXTS, names=("a.py", "c.py"))),
    ],
)
def test_other_data_splits_and_documents_have_labels_of_their_own(counted, change):
    labelled(stream_of(*TEXTS))
    before = len(counted)
    change()
    assert len(counted) > before


def test_a_changed_source_or_changed_code_is_not_answered_from_the_cache(counted, monkeypatch):
    labelled(stream_of(*TEXTS))
    with monkeypatch.context() as patch:
        patch.setattr(PythonLabels, "fingerprint", "another")
        labelled(stream_of(*TEXTS))
    assert len(counted) == 4
    monkeypatch.setattr(kept, "code_fingerprint", lambda: "other code")
    labelled(stream_of(*TEXTS))
    assert len(counted) == 6


def test_a_function_that_changes_gives_its_new_labels(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    code = "def f(text, name):\n    return {'l': [(0, SIZE)]}\nf.families = {'l': 'dev'}\n"
    sizes = []
    for size in (1, 3):
        module = tmp_path / "mine.py"
        module.write_text(code.replace("SIZE", str(size)))
        monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
        __import__("importlib").invalidate_caches()
        table = labelled(stream_of(*TEXTS), given="mine:f")
        sizes.append(int(table.after.sum()))
    assert sizes == [2, 6]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another's"])
def test_a_damaged_file_is_made_again(counted, tmp_path, damage):
    first = labelled(stream_of(*TEXTS))
    (path,) = kept_files(tmp_path)
    raw = path.read_bytes()
    middle = len(raw) // 2
    labelled(stream_of(TEXTS[0]))
    (other,) = set(kept_files(tmp_path)) - {path}
    wrong = {
        "cut": raw[:middle],
        "flipped": raw[:200] + bytes([raw[200] ^ 1]) + raw[201:],
        "empty": b"",
        "another's": other.read_bytes(),
    }
    path.write_bytes(wrong[damage])
    before = len(counted)
    same(labelled(stream_of(*TEXTS)), first)
    assert len(counted) == before + 2
    assert path.read_bytes() == raw


def test_where_nothing_can_be_written_there_are_labels_all_the_same(counted, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "file"))
    assert labelled(stream_of(*TEXTS)).after.any()


def _label_often(_: int) -> int:
    return sum(int(labelled(stream_of(*TEXTS)).after.sum()) for _ in range(5))


def test_two_processes_at_once_agree():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert len(set(pool.map(_label_often, range(4)))) == 1


def test_pieces_of_a_python_file_have_the_labels_of_python():
    stream = stream_of(*TEXTS, names=("a.py#0001", "b.py#0001"))
    table = choose.labels_of_stream(stream, PIECES)
    assert table.valued[1:].any()
    same(table, choose.labels_of_stream(stream_of(*TEXTS), PIECES))
    other = replace(stream, names=["a.py.gz", "b#x.py#1x"])
    assert choose.labels_of_stream(other, PIECES).startswith("no document has a name")


def test_a_function_that_is_built_in_has_a_fingerprint():
    with pytest.raises(Exception, match="has no families"):
        from_function("os:getcwd")
