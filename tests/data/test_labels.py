"""Labels beside the text: whose they are, what they cost the fingerprint, who may go without."""

import numpy as np
import pytest

from pellucid.data import DataConfig, prepare
from pellucid.data.generated import Generated
from pellucid.data.python_labels import LOOP, labels_of
from pellucid.data.python_source import PythonCore, PythonInstalled
from pellucid.data.text_files import TextFiles
from pellucid.errors import ConfigError
from pellucid.experiments import run_config

SMALL = ["tiny", "data=generated", "data.n_documents=12"]


def documents(config):
    return {document.name: document for document in config.build().documents()}


def test_a_token_has_the_labels_of_its_last_byte(shared_cache):
    corpus = Generated.Config(n_documents=24, labels="loop")
    data = prepare(DataConfig(corpus=corpus, vocab_size=300), progress=False)
    texts = documents(corpus)
    split, lengths = data.split("train"), [len(raw) for raw in data.tokenizer.token_bytes]
    for name, start, end in zip(split.names, split.offsets[:-1], split.offsets[1:], strict=True):
        last = np.cumsum([lengths[token] for token in split.tokens[start + 1 : end]]) - 1
        assert split.side["labels"][start] == -1
        expected = labels_of(texts[name].text)[last]
        assert split.side["labels"][start + 1 : end].tolist() == expected.tolist()
    carried = np.bitwise_or.reduce(split.side["labels"][split.side["labels"] >= 0])
    assert carried >> LOOP.index("in_class") & 1 and carried >> LOOP.index("in_function") & 1


def test_labels_change_the_fingerprint_and_not_the_tokens(shared_cache):
    plain, labeled = (
        prepare(DataConfig(corpus=Generated.Config(n_documents=12, labels=labels)), progress=False)
        for labels in ("none", "loop")
    )
    assert plain.fingerprint != labeled.fingerprint
    assert np.array_equal(plain.split("train").tokens, labeled.split("train").tokens)
    assert set(labeled.split("val").side) - set(plain.split("val").side) == {"labels"}


def test_files_that_are_not_python_have_unknown_labels(text_folder):
    (text_folder / "code.py").write_text("class A:\n    '''é'''\n")
    (text_folder / "rows.jsonl").write_text('{"text": "class A:"}\n')
    found = documents(TextFiles.Config(path=str(text_folder), labels="loop"))
    assert found["code.py"].side["labels"].tolist() == labels_of(found["code.py"].text).tolist()
    for name in ("file00.txt", "rows.jsonl#1"):
        labels = found[name].side["labels"]
        assert len(labels) == len(found[name].text.encode()) and (labels == -1).all()
    plain = TextFiles.Config(path=str(text_folder)).build()
    assert plain.side_channels == () and all(not d.side for d in plain.documents())


def test_the_pieces_of_one_file_have_the_labels_of_the_whole(tmp_path):
    text = "class A:\n" + "".join(f"    é{number} = 'text'\n" for number in range(900))
    (tmp_path / "long.py").write_text(text)
    pieces = documents(TextFiles.Config(path=str(tmp_path / "long.py"), labels="loop"))
    assert len(pieces) > 5
    joined = np.concatenate([piece.side["labels"] for piece in pieces.values()])
    assert np.array_equal(joined, labels_of(text))
    last = list(pieces.values())[-1]
    inside = 1 << LOOP.index("in_class")
    assert (last.side["labels"][5:] & inside).all() and not (labels_of(last.text) & inside).any()


def test_installed_packages_and_the_library_are_labeled(tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "mod.py").write_text("def f():\n    return 'x'\n")
    corpus = PythonInstalled.Config(path=str(tmp_path), labels="loop").build()
    corpus.files = lambda: [corpus.root / "this.py"]
    found = {document.name: document for document in corpus.documents()}
    assert list(found) == ["this.py", "site-packages/some/mod.py"]
    for document in found.values():
        assert np.array_equal(document.side["labels"], labels_of(document.text))
    assert PythonCore.Config(labels="loop").build().side_channels == ("labels",)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["head=concept"], "corpus generated comes without: add data.labels=loop"),
        (
            ["head=concept", "data=hf", "data.name=x"],
            "data=python, python+site, pypi, files, generated",
        ),
    ],
)
def test_a_head_that_learns_from_labels_is_refused_without_them(words, says):
    with pytest.raises(ConfigError, match=r"model\.head = concept learns from labels") as caught:
        run_config([*(w for w in SMALL if "hf" not in str(words) or w == "tiny"), *words])
    assert str(caught.value).endswith(says)
    assert run_config([*SMALL, "head=concept", "data.labels=loop"]).model.head.n_known == len(LOOP)
