import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers

from pellucid.data.tokenizer import EOT, PROBES, Tokenizer, train_tokenizer
from pellucid.errors import DataError

TRAINING_TEXT = ["def read_line(self, size):\n    return self.buffer[size]\n"] * 20

tokenizer = train_tokenizer(iter(TRAINING_TEXT), vocab_size=300)


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_comes_back_and_its_bytes_are_counted(text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert tokenizer.encode_batch([text, text]) == [ids, ids]


@pytest.mark.parametrize("text", PROBES)
def test_probes_come_back(text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_byte_has_a_token_and_every_token_its_bytes():
    single = {raw for raw in tokenizer.token_bytes if len(raw) == 1}
    assert single == {bytes([byte]) for byte in range(256)}
    assert tokenizer.vocab_size == len(tokenizer.token_bytes) <= 300
    assert [i for i, raw in enumerate(tokenizer.token_bytes) if not raw] == [tokenizer.eot]


def test_spelt_out_end_of_text_is_ordinary_bytes():
    ids = tokenizer.encode(f"a{EOT}b")
    assert tokenizer.eot not in ids
    assert tokenizer.decode(ids) == f"a{EOT}b"
    again = Tokenizer.from_json(tokenizer.json)
    assert again.encode(f"a{EOT}b") == ids


def test_end_of_text_stands_for_no_bytes_but_is_shown():
    assert tokenizer.decode_bytes([tokenizer.eot]) == b""
    assert tokenizer.token_text(tokenizer.eot) == EOT


def test_token_text_shows_bytes_that_are_no_text():
    half = tokenizer.token_bytes.index(b"\xc3")
    assert tokenizer.token_text(half) == "\\xc3"
    assert tokenizer.token_text(tokenizer.token_bytes.index(b" ")) == " "


def test_training_twice_gives_the_same_tokenizer():
    assert train_tokenizer(iter(TRAINING_TEXT), vocab_size=300).sha256 == tokenizer.sha256
    assert train_tokenizer(iter(TRAINING_TEXT[:1]), vocab_size=270).sha256 != tokenizer.sha256


def test_saved_and_loaded_it_is_the_same(tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.sha256 == tokenizer.sha256
    assert loaded.token_bytes == tokenizer.token_bytes


def edited(**changes):
    return json.dumps(json.loads(tokenizer.json) | changes)


def test_a_normalizer_is_refused():
    inner = tokenizers.Tokenizer.from_str(tokenizer.json)
    inner.normalizer = normalizers.NFC()
    with pytest.raises(DataError, match="loses bytes"):
        Tokenizer.from_json(inner.to_str())


def test_an_added_leading_space_is_refused():
    inner = tokenizers.Tokenizer.from_str(tokenizer.json)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with pytest.raises(DataError, match="loses bytes"):
        Tokenizer.from_json(inner.to_str())


def test_a_missing_byte_is_refused():
    raw = json.loads(tokenizer.json)
    vocabulary = raw["model"]["vocab"]
    raw["model"]["merges"] = []
    raw["model"]["vocab"] = {token: i for token, i in vocabulary.items() if token != "Ã"}
    with pytest.raises(DataError, match="loses bytes"):
        Tokenizer.from_json(json.dumps(raw))


def test_a_word_vocabulary_is_refused():
    inner = tokenizers.Tokenizer(
        models.WordLevel({"hello world": 0, "[UNK]": 1}, unk_token="[UNK]")
    )
    inner.add_special_tokens([EOT])
    with pytest.raises(DataError, match=r"\(WordLevel\) is not byte-level.*'hello world'"):
        Tokenizer.from_json(inner.to_str())


def test_no_end_of_text_is_refused():
    with pytest.raises(DataError, match=r"no end-of-text token: one special token of <\|endoftext"):
        Tokenizer.from_json(edited(added_tokens=[]))


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": 3}', "not json"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"tokenizer\.json is not a `tokenizer\.json`"):
        Tokenizer.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json cannot be read: No such file"):
        Tokenizer.load(tmp_path / "nowhere.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"binary\.json cannot be read: it is not UTF-8"):
        Tokenizer.load(tmp_path / "binary.json")


def test_special_tokens_and_truncation_of_a_given_tokenizer_are_not_applied():
    inner = tokenizers.Tokenizer.from_str(tokenizer.json)
    inner.enable_truncation(max_length=4)
    inner.enable_padding(length=8)
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{EOT} $A", special_tokens=[(EOT, tokenizer.eot)]
    )
    given_one = Tokenizer.from_json(inner.to_str())
    assert given_one.encode("return self.buffer") == tokenizer.encode("return self.buffer")
