"""Labels of characters on tokens: what holds before, after, on the way, and what is not known."""

import numpy as np
import pytest

from pellucid.errors import UserError
from pellucid.eval.labels import Label, LabelTable, Marks, label_stream
from pellucid.eval.labels.marks import characters, project
from pellucid.eval.stream import Stream

TWO = (Label("quoted", "lexer", "dev", True), Label("ahead", "expression", "test", False))


def on(text: str, marks: str) -> np.ndarray:
    assert len(text) == len(marks)
    return np.array([c != "." for c in marks])


def marks_of(text: str, *columns: str) -> Marks:
    marks = Marks(len(text), len(columns))
    for label, column in enumerate(columns):
        marks.put(label, on(text, column))
    return marks


def test_tokens_have_what_holds_before_and_after_them():
    #                    a  ('  b   ')     c
    text, sizes = "a('b')c", [1, 2, 1, 2, 1]
    found = project(text, np.array(sizes), marks_of(text, "..xx..."))
    assert found.after[:, 0].tolist() == [False, True, True, False, False]
    assert found.before[:, 0].tolist() == [False, False, True, True, False]
    assert not found.mixed.any() and found.valued.all()


def test_a_token_that_passes_through_a_state_is_mixed():
    text = "a''b"
    found = project(text, np.array([1, 2, 1]), marks_of(text, ".x..", ".xx."))
    assert found.mixed.tolist() == [[False, False], [True, False], [False, False]]


def test_what_holds_before_the_first_character():
    marks = marks_of("ab", "..")
    marks.put_start(0)
    found = project("ab", np.array([0, 1, 1]), marks)
    assert found.after[:, 0].tolist() == [True, False, False]
    assert found.before[:, 0].tolist() == [True, True, False]


def test_the_sixty_fifth_label_is_its_own():
    marks = Marks(2, 70)
    marks.put(64, np.array([True, False]))
    marks.put(69, np.array([False, True]))
    found = project("ab", np.array([1, 1]), marks)
    assert np.argwhere(found.after).tolist() == [[0, 64], [1, 69]]


def test_a_token_that_ends_within_a_character_has_no_value():
    text = "é→x"  # 2, 3 and 1 bytes
    ends, whole = characters(text, np.arange(7))
    assert ends.tolist() == [0, 0, 1, 1, 1, 2, 3]
    assert whole.tolist() == [True, False, True, False, False, True, True]
    found = project(text, np.array([1, 1, 2, 1, 1]), marks_of(text, "x.x"))
    assert found.valued[:, 0].tolist() == [False, True, False, True, True]
    assert found.after[[1, 3, 4], 0].tolist() == [True, False, True]


class Quoted:
    """Labels files named `.py` alone."""

    labels = TWO
    fingerprint = "1"
    whole_files = False

    def marks(self, text, name):
        if not name.endswith(".py"):
            return None
        return Marks.of(
            {"quoted": np.array([c == "q" for c in text])}, ("quoted", "ahead"), len(text)
        )


def stream_of(texts: dict[str, str]) -> tuple[Stream, list[bytes]]:
    """One token a byte; the eot is token 256."""
    pieces = [[256, *text.encode()] for text in texts.values()]
    lengths = [len(piece) for piece in pieces]
    stream = Stream(
        tokens=np.concatenate(pieces).astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        names=list(texts),
        doc_bytes=np.array([n - 1 for n in lengths]),
        eot=256,
        complete=True,
    )
    return stream, [bytes([b]) for b in range(256)] + [b""]


def test_documents_are_labelled_each_for_itself():
    stream, token_bytes = stream_of({"a.py": "aqb", "b.txt": "q", "c.py": "q"})
    table = label_stream(stream, token_bytes, Quoted())
    assert table.after[:, 0].tolist() == [False, False, True, False, False, False, False, True]
    assert table.valued[:, 0].tolist() == [False, True, True, True, False, False, False, True]
    assert not table.valued[:, 1].any() and not table.known.any()
    assert table.select(prefix=True).known.tolist() == table.valued[:, 0].tolist()


def test_columns_are_chosen_by_what_they_are():
    table = LabelTable.of(np.array([[True, False], [False, True]]), TWO)
    assert table.select(family="test").names == ("ahead",)
    assert table.select(names=["ahead", "quoted"]).after.tolist() == [[False, True], [True, False]]
    assert table.select(family=("dev", "test"), prefix=True).groups == ("lexer",)
    assert table.before.tolist() == [[False, False], [True, False]]
    assert table.known_of("ahead").all()


def test_a_label_of_both_families_is_found_under_either():
    table = LabelTable.of(np.eye(3, dtype=bool), [*TWO, Label("mine", "given", "both", True)])
    assert table.select(family="dev").names == ("quoted", "mine")
    assert table.select(family="test", prefix=True).names == ("mine",)
    with pytest.raises(UserError, match="no label has family 'loop'"):
        table.select(family="loop")


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        ({"family": "hidden"}, "family 'hidden' is unknown: loop, dev, test"),
        ({"group": "words"}, "group 'words' is unknown"),
        ({"names": ["nothing"]}, "there is no label 'nothing': quoted, ahead are there"),
        ({"family": "loop"}, "no label has family 'loop'"),
    ],
)
def test_a_choice_of_nothing_is_refused(ask, says):
    table = LabelTable.of(np.ones((1, 2), bool), TWO)
    with pytest.raises(UserError, match=says):
        table.select(**ask)


def test_a_label_of_no_family_is_refused():
    with pytest.raises(UserError, match="label 'x' has family 'train': loop, dev, test"):
        Label("x", "lexer", "train", True)
