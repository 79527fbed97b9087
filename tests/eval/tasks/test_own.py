"""The user's own pairs, from a file."""

import json

import pytest
from support.answering import code_tokenizer

from pellucid.errors import UserError
from pellucid.eval.tasks import load_pairs, pack

ROW = {"prompt_a": "if a", "prompt_b": "a", "answer_a": " == 1:", "answer_b": " = 1\n"}


def written(tmp_path, *lines):
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_pairs_of_a_file_become_a_batch(tmp_path):
    pairs = load_pairs(written(tmp_path, json.dumps(ROW), "", json.dumps(ROW)))
    batch = pack(pairs, code_tokenizer(), name="mine")
    assert [pair._asdict() for pair in pairs] == [ROW | {"form": 0}] * 2
    spelled = [code_tokenizer().decode([int(t[0])]) for t in (batch.answer_a, batch.answer_b)]
    assert ROW["answer_a"].startswith(spelled[0])
    assert ROW["answer_b"].startswith(spelled[1])


@pytest.mark.parametrize(
    "lines, sentence",
    [
        ([""], "holds no pairs"),
        ([json.dumps(ROW), "{"], "line 2, is not JSON"),
        (["[1]"], "line 1, has list: exactly prompt_a"),
        ([json.dumps({"prompt_a": "x"})], "line 1, has prompt_a: exactly prompt_a, prompt_b"),
        ([json.dumps(ROW | {"answer_b": ""})], "line 1, has answer_b ''"),
        ([json.dumps(ROW | {"answer_b": 3})], "line 1, has answer_b 3"),
    ],
)
def test_a_file_that_is_not_of_pairs_is_refused(tmp_path, lines, sentence):
    with pytest.raises(UserError, match=sentence):
        load_pairs(written(tmp_path, *lines))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing.jsonl cannot be read: No such file"):
        load_pairs(tmp_path / "nothing.jsonl")
    (tmp_path / "raw").write_bytes(b"\xff")
    with pytest.raises(UserError, match="it is not UTF-8"):
        load_pairs(tmp_path / "raw")
