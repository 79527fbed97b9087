import json
import shutil

import numpy as np
import pytest

from pellucid.data import TokenData
from pellucid.data import store as store_module
from pellucid.data.splits import SPLITS
from pellucid.errors import DataError
from pellucid.storage import files


@pytest.fixture
def copied(generated_data, tmp_path):
    return shutil.copytree(generated_data.folder, tmp_path / "copy")


def test_every_document_is_its_eot_and_its_text(generated_data):
    from pellucid.data.generated import Generated

    corpus = Generated.Config(n_documents=96).build()
    texts = {document.name: document.text for document in corpus.documents()}
    tokenizer, seen = generated_data.tokenizer, set()
    for name in SPLITS:
        split = generated_data.split(name)
        assert split.offsets[0] == 0 and split.offsets[-1] == len(split.tokens)
        for i, document in enumerate(split.names):
            ids = split.tokens[split.offsets[i] : split.offsets[i + 1]].tolist()
            assert ids[0] == tokenizer.eot and tokenizer.eot not in ids[1:]
            assert tokenizer.decode(ids) == texts[document]
            assert split.doc_bytes[i] == len(texts[document].encode())
            seen.add(document)
    assert seen == set(texts)


def test_side_channels_are_the_labels_of_each_token_s_last_byte(generated_data):
    from pellucid.data.generated import Generated

    documents = {d.name: d for d in Generated.Config(n_documents=96).build().documents()}
    split, tokenizer = generated_data.split("val"), generated_data.tokenizer
    for i, name in enumerate(split.names):
        here = slice(split.offsets[i], split.offsets[i + 1])
        for channel in ("bracket_depth", "kind"):
            labels, place = split.side[channel][here].tolist(), 0
            assert labels[0] == -1
            for token, label in zip(split.tokens[here][1:], labels[1:], strict=True):
                place += len(tokenizer.token_bytes[token])
                assert label == documents[name].side[channel][place - 1]


def test_bracket_depth_agrees_with_the_tokens_alone(generated_data):
    split, raw = generated_data.split("train"), generated_data.tokenizer.token_bytes
    delta = np.array([sum(b in b"([{" for b in t) - sum(b in b")]}" for b in t) for t in raw])
    here = slice(split.offsets[7] + 1, split.offsets[8])
    assert np.array_equal(np.cumsum(delta[split.tokens[here]]), split.side["bracket_depth"][here])


def test_no_group_is_in_two_splits(generated_data):
    groups = [set(generated_data.split(name).groups) for name in SPLITS]
    assert all(groups) and not groups[0] & groups[1] and not (groups[0] | groups[1]) & groups[2]


def test_the_manifest_counts_what_there_is(generated_data):
    for name in SPLITS:
        split, counts = generated_data.split(name), generated_data.manifest["splits"][name]
        assert counts == {
            "documents": len(split.names),
            "groups": len(set(split.groups)),
            "bytes": int(split.doc_bytes.sum()),
            "tokens": len(split.tokens),
        }
    assert sum(c["documents"] for c in generated_data.manifest["splits"].values()) == 96
    assert generated_data.manifest["tokenizer"]["sha256"] == generated_data.tokenizer.sha256
    assert set(generated_data.manifest["files"]) == {
        path.name for path in generated_data.folder.iterdir() if path.name != "manifest.json"
    }


def test_a_copied_folder_opens(copied, generated_data):
    data = TokenData(copied)
    data.verify()
    assert data.fingerprint == generated_data.fingerprint


def damage(path, how):
    raw = bytearray(path.read_bytes())
    if how == "truncate":
        raw = raw[:-1]
    elif how == "append":
        raw += b"\0"
    else:
        raw[len(raw) // 2] ^= 4
    path.write_bytes(bytes(raw))


def test_any_damage_to_any_file_is_refused_and_named(copied):
    paths = sorted(copied.iterdir())
    assert len(paths) == 20
    for path in paths:
        whole = path.read_bytes()
        for how in ("truncate", "append", "flip"):
            damage(path, how)
            with pytest.raises(DataError, match=path.name):
                TokenData(copied)
            path.write_bytes(whole)
        path.rename(copied / "aside")
        with pytest.raises(DataError, match=path.name):
            TokenData(copied)
        (copied / "aside").rename(path)
    TokenData(copied)


def test_large_files_are_hashed_by_verify_alone(copied, monkeypatch):
    monkeypatch.setattr(store_module, "HASHED_AT_OPEN", 1)
    damage(copied / "tokens-train.bin", "flip")
    data = TokenData(copied)
    with pytest.raises(DataError, match=r"tokens-train\.bin is damaged: its content"):
        data.verify()
    damage(copied / "tokens-train.bin", "truncate")
    with pytest.raises(DataError, match=r"tokens-train\.bin is damaged: it has \d+ bytes instead"):
        TokenData(copied)


def resealed(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    change(manifest)
    path.write_bytes(files.dump(store_module.sealed(manifest), path.name, DataError))


def test_a_file_name_that_leaves_the_folder_is_refused(copied):
    entry = {"bytes": 1, "sha256": "0"}
    resealed(copied, lambda manifest: manifest["files"].update({"../outside": entry}))
    with pytest.raises(DataError, match="'../outside' is not a plain file name"):
        TokenData(copied)


def test_another_format_is_refused(copied):
    resealed(copied, lambda manifest: manifest.update(format=99))
    with pytest.raises(DataError, match="is not of format 1, the only one"):
        TokenData(copied)


def test_a_pickle_is_never_read(copied):
    path = copied / "offsets-val.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    entry = {"bytes": path.stat().st_size, "sha256": store_module.file_sha256(path)}
    resealed(copied, lambda manifest: manifest["files"].update({path.name: entry}))
    with pytest.raises((ValueError, DataError)):
        len(TokenData(copied).split("val").offsets)
