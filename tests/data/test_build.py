import json
import os

import numpy as np
import pytest
import tokenizers

from pellucid.data import DataConfig, TokenData, prepare
from pellucid.data.splits import SPLITS
from pellucid.data.text_files import TextFiles
from pellucid.errors import DataError


def prepared(path, *, vocab_size=300, **fields) -> TokenData:
    corpus = TextFiles.Config(path=str(path), **fields)
    return prepare(DataConfig(corpus=corpus, vocab_size=vocab_size), progress=False)


def texts_of(data, name):
    split = data.split(name)
    places = zip(split.offsets[:-1], split.offsets[1:], strict=True)
    return {
        document: data.tokenizer.decode(split.tokens[start:stop].tolist())
        for document, (start, stop) in zip(split.names, places, strict=True)
    }


def all_texts(data):
    return {name: text for split in SPLITS for name, text in texts_of(data, split).items()}


def test_the_tokenizer_sees_train_only(text_folder):
    held_out = prepared(text_folder).split("val").names[0]
    path = text_folder / held_out
    # The same hash puts the file in the same split; its size hardly changes.
    planted = "zqxj" * (path.stat().st_size // 4)
    path.write_text(planted)
    data = prepared(text_folder, vocab_size=1000)
    assert planted in texts_of(data, "val").values()
    assert not any(b"zq" in raw for raw in data.tokenizer.token_bytes)
    name = data.split("train").names[0]
    (text_folder / name).write_text(planted + (text_folder / name).read_text())
    assert any(b"zq" in raw for raw in prepared(text_folder, vocab_size=1000).tokenizer.token_bytes)


def test_every_byte_of_strange_text_comes_back(text_folder):
    strange = {
        "all.txt": "".join(map(chr, [*range(1, 0xD800, 7), *range(0xE000, 0x110000, 4099)])),
        "eot.txt": "before<|endoftext|>after <|endoftext|>",
        "space.txt": " \r\n\t x \u00a0\u2028 e\u0301 \ufeff  ",
    }
    for name, text in strange.items():
        (text_folder / name).write_bytes(text.encode())
    data = prepared(text_folder)
    found = all_texts(data)
    assert {name: found[name] for name in strange} == strange
    for split in SPLITS:
        tokens = data.split(split).tokens
        assert int((tokens == data.tokenizer.eot).sum()) == len(data.split(split).names)


def test_copies_and_near_copies_go_before_the_split(text_folder):
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in rng.integers(0, 10**6, 600)]
    for number in range(8):
        edited = words.copy()
        edited[50 * number] = "edited"
        (text_folder / f"near{number}.txt").write_text(" ".join(edited))
        (text_folder / f"same{number}.txt").write_text("exactly the same " * 10)
    data = prepared(text_folder)
    assert {reason: entry["count"] for reason, entry in data.manifest["copies"].items()} == {
        "near": 7,
        "exact": 7,
    }
    assert data.manifest["copies"]["near"]["examples"][0] == "near1.txt ~ near0.txt"
    kept = set(all_texts(data))
    assert {name for name in kept if not name.startswith("file")} == {"near0.txt", "same0.txt"}


def test_a_threshold_of_one_keeps_near_copies(text_folder):
    words = [f"word{number}" for number in range(600)]
    for number in range(3):
        (text_folder / f"near{number}.txt").write_text(" ".join([*words[:-1], f"end{number}"]))
    corpus = TextFiles.Config(path=str(text_folder))
    strict = prepare(DataConfig(corpus=corpus, vocab_size=300), progress=False)
    loose = prepare(DataConfig(corpus=corpus, vocab_size=300, near_duplicate=1.0), progress=False)
    assert (len(all_texts(strict)), len(all_texts(loose))) == (13, 15)
    assert strict.fingerprint != loose.fingerprint


def test_what_is_left_out_is_counted(text_folder):
    (text_folder / "binary.bin").write_bytes(b"a\0b")
    (text_folder / "latin.txt").write_bytes(b"caf\xe9")
    (text_folder / "empty.txt").write_text(" \n")
    (text_folder / "rows.jsonl").write_text('{"text": "half a pair \\ud800"}\n')
    left_out = prepared(text_folder).manifest["left_out"]
    assert {reason: entry["count"] for reason, entry in left_out.items()} == {
        "binary": 1,
        "empty": 1,
        "not UTF-8": 1,
        "not valid Unicode": 1,
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"the corpus holds no text: give a file or a folder of UTF-8 text"),
        ({"a.txt": b" "}, r"the corpus holds no text \(left out: 1 empty\)"),
        ({"a.bin": b"\0", "b.bin": b"\0"}, r"the corpus holds no text \(left out: 2 binary\)"),
        ({"a.txt": b"one", "b.txt": b"two"}, r"has 2 document.* at least 3 are needed"),
    ],
)
def test_an_empty_corpus_is_refused_and_nothing_is_left(tmp_path, own_cache, files, message):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    with pytest.raises(DataError, match=message):
        prepared(folder)
    assert sorted(path.name for path in (own_cache / "tokens").iterdir()) == ["by-key", "locks"]


def test_rows_of_parquet_and_json_lines_become_the_same_documents(tmp_path):
    import pyarrow
    import pyarrow.parquet

    texts = [f"text {number} says {number * 7919}" for number in range(40)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    lines = [json.dumps({"text": text}) for text in texts]
    (tmp_path / "a" / "rows.jsonl").write_text("\n".join(lines))
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "b" / "rows.parquet")
    from_lines, from_parquet = prepared(tmp_path / "a"), prepared(tmp_path / "b")
    for split in SPLITS:
        mine, other = (list(texts_of(data, split).values()) for data in (from_lines, from_parquet))
        assert mine == other and mine
    assert sorted(all_texts(from_lines).values()) == sorted(texts)


def test_a_given_tokenizer_is_used_and_checked(tmp_path, generated_data, generated_config):
    path = tmp_path / "tokenizer.json"
    generated_data.tokenizer.save(path)
    data = prepare(generated_config(40, seed=3, tokenizer=str(path)), progress=False)
    assert data.tokenizer.sha256 == generated_data.tokenizer.sha256
    assert data.manifest["tokenizer"]["trained_here"] is False
    inner = tokenizers.Tokenizer.from_file(str(path))
    inner.normalizer = tokenizers.normalizers.Lowercase()
    inner.save(str(path))
    with pytest.raises(DataError, match=r"tokenizer .*tokenizer\.json loses bytes"):
        prepare(generated_config(40, seed=3, tokenizer=str(path)), progress=False)


def test_a_vocabulary_above_two_bytes_is_stored_in_four(tmp_path, generated_data, generated_config):
    raw = json.loads(generated_data.tokenizer.json)
    vocabulary = raw["model"]["vocab"]
    vocabulary |= {"Z" * 9 + str(number): number for number in range(len(vocabulary), 70_000)}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(raw))
    data = prepare(generated_config(40, seed=3, tokenizer=str(path)), progress=False)
    assert data.split("val").tokens.dtype == np.uint32 and data.vocab_size == 70_000
    assert all(text.isascii() for text in texts_of(data, "val").values())


def test_a_local_dataset_is_prepared(tmp_path, monkeypatch):
    import datasets

    from pellucid.data.hub import HubDataset

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    folder = tmp_path / "dataset"
    folder.mkdir()
    texts = [f"row {number} says {number * 7919}" for number in range(60)]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    corpus = HubDataset.Config(name=str(folder), n_documents=50)
    data = prepare(DataConfig(corpus=corpus, vocab_size=270), progress=False)
    assert sorted(all_texts(data).values()) == sorted(texts[:50])


def test_progress_and_the_summary_go_to_standard_error(own_cache, capsys, generated_config):
    import datasets

    data = prepare(generated_config(12), progress=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "generated: 12 documents" in printed.err and str(data.folder) in printed.err
    assert not datasets.are_progress_bars_disabled()


def test_a_file_name_that_is_not_utf8_is_shown_escaped(text_folder):
    (text_folder / os.fsdecode(b"caf\xe9.txt")).write_text("au lait")
    (text_folder / os.fsdecode(b"th\xe9.txt")).write_bytes(b"\0")
    data = prepared(text_folder)
    assert all_texts(data)[r"caf\xe9.txt"] == "au lait"
    assert data.manifest["left_out"]["binary"]["examples"] == [r"th\xe9.txt"]
