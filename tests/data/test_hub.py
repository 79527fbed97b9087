import json

import datasets
import pytest

from pellucid.data.hub import HubDataset
from pellucid.errors import DataError

TEXTS = [f"row {number} has some words of its own: {number * 7919}" for number in range(10)]


@pytest.fixture
def dataset_folder(tmp_path):
    folder = tmp_path / "dataset"
    folder.mkdir()
    rows = [json.dumps({"content": text, "n": n}) for n, text in enumerate(TEXTS)]
    (folder / "train.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(autouse=True)
def _library_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")


def read(folder, **fields):
    config = HubDataset.Config(name=str(folder), text_field="content", **fields)
    return list(config.build().documents())


@pytest.mark.parametrize("streaming", [True, False])
def test_a_local_dataset_is_read(dataset_folder, streaming):
    documents = read(dataset_folder, streaming=streaming)
    assert [d.text for d in documents] == TEXTS
    assert documents[3].name == "row 3" and len({d.group for d in documents}) == 10


def test_the_first_documents_are_read(dataset_folder):
    assert [d.text for d in read(dataset_folder, n_documents=4)] == TEXTS[:4]


def test_a_saved_dataset_is_read(tmp_path):
    saved = datasets.Dataset.from_dict({"content": TEXTS})
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"dev": saved}).save_to_disk(tmp_path / "dict")
    assert [d.text for d in read(tmp_path / "one")] == TEXTS
    assert [d.text for d in read(tmp_path / "dict", split="dev")] == TEXTS
    with pytest.raises(DataError, match=r"split 'train'\) cannot be opened"):
        read(tmp_path / "dict")


def test_a_missing_column_names_those_there_are(dataset_folder):
    with pytest.raises(DataError, match=r"no column data\.text_field='text'; .* 'content', 'n'"):
        list(HubDataset.Config(name=str(dataset_folder)).build().documents())


def test_a_missing_split_is_refused(dataset_folder):
    with pytest.raises(DataError, match=r"split 'dev'\) cannot be opened: .*dev"):
        read(dataset_folder, split="dev")


def test_without_a_network_one_sentence_says_so(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"data\.name='no/such'.*without a network give a local"):
        read("no/such")


def test_no_name_is_refused():
    with pytest.raises(DataError, match=r"data\.name is empty"):
        HubDataset.Config().build()
