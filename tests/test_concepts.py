"""A head with known concepts, trained on a corpus with labels: what it is taught, it then knows."""

import pytest
import torch
from support.training import assert_same_training, small

from pellucid.data import prepare
from pellucid.models import record
from pellucid.run import load
from pellucid.train import train

WORDS = ("head=concept", "head.n_free=64", "head.k_free=8", "data.labels=loop", "dropout=0")


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    folder = tmp_path_factory.mktemp("concepts") / "run"
    config = small(*WORDS, "context=64", "train.steps=250", "train.lr=0.01", "head.label_weight=1")
    assert train(config, folder) == 0
    return config, load(folder)


def test_known_concepts_follow_their_labels_on_text_that_was_not_trained_on(taught):
    """Mean squared error of what a known unit says, against that of its label's mean."""
    config, run = taught
    batch = prepare(config.data, progress=False).rows(0, 0, batch=24, context=64, split="val")
    with torch.no_grad(), record(run.model, "head.concepts") as trace:
        run.model(batch.tokens[:, :-1])
    said = trace["head.concepts"].to_dense()
    labels = batch.side["labels"][:, :-1]
    for name in ("in_brackets", "in_class", "indented"):
        unit = run.model.head.known.index(name)
        held, given = (labels >> unit & 1)[labels >= 0].float(), said[..., unit][labels >= 0]
        error = (given - held).square().mean() / (held.mean() - held).square().mean()
        assert error < 0.85, (name, error)


def test_a_trained_concept_head_validates_and_generates(taught):
    _, run = taught
    rows = [row for row in run.folder.read_metrics() if row["kind"] == "val"]
    assert rows[-1]["loss"] < rows[0]["loss"] - 1
    start = torch.full((1, 1), run.data.tokenizer.eot)
    assert run.model.generate(start, 12, temperature=0).shape == (1, 13)


def test_labels_accumulate_like_one_batch(tmp_path):
    words = (*WORDS, "train.precision=fp64", "train.log_every=1", "train.steps=50")
    assert train(small(*words), tmp_path / "whole") == 0
    assert train(small(*words, "train.micro_batch=2"), tmp_path / "parts") == 0
    assert_same_training(tmp_path / "whole", tmp_path / "parts")
