"""Activations on disk equal those of the model, are published whole, and are recorded once."""

import errno
import os
import time

import numpy as np
import pytest
import torch

from pellucid.errors import RunError, UserError
from pellucid.models import ModelConfig, Transformer, ablate, intervene, record
from pellucid.models.activations import Activations
from pellucid.models.mlp import MLPS
from pellucid.storage import recorded

VOCABULARY = 61


def tiny_model(mlp: str = "topk", **changes) -> Transformer:
    sizes = {"width": 48} if mlp == "dense" else {"width": 48, "k": 5}
    filling = MLPS[mlp].Config(**sizes)
    config = ModelConfig(n_layers=2, d_model=16, context=24, mlp=filling, **changes)
    return Transformer(config, vocab_size=VOCABULARY).eval()


def some_tokens(rows: int = 7) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def two_rows_a_pass(monkeypatch):
    monkeypatch.setattr(recorded, "CHUNK_TOKENS", 48)


@pytest.mark.parametrize("mlp", ["topk", "dense"])
def test_cached_activations_equal_recorded_ones(tmp_path, mlp):
    model, tokens = tiny_model(mlp), some_tokens()
    sites = ["embed", "blocks.0.mlp", "blocks.1.attention", "blocks.1.stream"]
    on_disk = recorded.cached(model, sites, tokens, tmp_path, step=3)
    with torch.no_grad(), record(model, sites) as trace:
        model(tokens)
    for name in sites:
        cached, expected = on_disk[name], trace[name]
        assert isinstance(cached.values, np.memmap)
        assert cached.values.dtype == np.float32
        assert cached.n_units == expected.n_units
        assert len(cached) == len(tokens)
        rows = cached[2:5]
        torch.testing.assert_close(rows.to_dense(), expected.to_dense()[2:5], rtol=1e-5, atol=1e-6)
        if expected.indices is not None:
            assert cached.indices.dtype == np.int32
            assert torch.equal(rows.indices, expected.indices[2:5])
        whole = torch.cat([chunk.to_dense() for chunk in cached.chunks(rows=3)])
        torch.testing.assert_close(whole, expected.to_dense(), rtol=1e-5, atol=1e-6)


def test_the_second_call_reads_and_does_not_run(tmp_path, monkeypatch):
    model, tokens = tiny_model(), some_tokens()
    first = recorded.cached(model, "blocks.0.mlp", tokens, tmp_path, step=3)["blocks.0.mlp"]
    monkeypatch.setattr(Transformer, "forward", None)
    again = recorded.cached(model, ["blocks.0.mlp"], tokens, tmp_path, step=3)["blocks.0.mlp"]
    assert again.values.filename == first.values.filename
    assert np.array_equal(again.values, first.values)


def test_other_tokens_sites_steps_and_weights_are_other_recordings(tmp_path):
    model, tokens = tiny_model(), some_tokens()
    other = tokens.clone()
    other[0, 0] = (other[0, 0] + 1) % VOCABULARY
    recorded.cached(model, "blocks.0.mlp", tokens, tmp_path, step=3)
    recorded.cached(model, "blocks.0.mlp", other, tmp_path, step=3)
    recorded.cached(model, "blocks.1.mlp", tokens, tmp_path, step=3)
    recorded.cached(model, "blocks.0.mlp", tokens, tmp_path, step=4)
    with torch.no_grad():
        model.embedding.weight[0, 0] += 1
    recorded.cached(model, "blocks.0.mlp", tokens, tmp_path, step=3)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_file_widens_when_a_later_pass_has_more_slots(tmp_path):
    writer = recorded._SiteWriter(tmp_path, "site", rows=5)
    chunks = [
        Activations(torch.tensor([[[1.0, 2.0]], [[3.0, 0.0]]]), as_int([[[0, 4]], [[2, -1]]]), 9),
        Activations(torch.tensor([[[5.0, 6.0, 7.0]]]), as_int([[[1, 2, 3]]]), 9),
        Activations(torch.tensor([[[8.0]], [[9.0]]]), as_int([[[8]], [[0]]]), 9),
    ]
    for chunk in chunks:
        writer.append(chunk)
    assert writer.close() == {"n_units": 9, "sparse": True}
    assert np.load(tmp_path / "site.values.npy").tolist() == [
        [[1, 2, 0]],
        [[3, 0, 0]],
        [[5, 6, 7]],
        [[8, 0, 0]],
        [[9, 0, 0]],
    ]
    assert np.load(tmp_path / "site.indices.npy").tolist() == [
        [[0, 4, -1]],
        [[2, -1, -1]],
        [[1, 2, 3]],
        [[8, -1, -1]],
        [[0, -1, -1]],
    ]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["site.indices.npy", "site.values.npy"]


def as_int(values: list) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def test_bad_tokens_and_sites_are_named_and_nothing_is_written(tmp_path):
    model, tokens, root = tiny_model(), some_tokens(), tmp_path / "cache"
    for wrong, says in [
        (tokens[0], r"int64 \(24,\)"),
        (tokens.float(), "float32"),
        (tokens[:0], r"\(0, 24\)"),
        (tokens + VOCABULARY, "expected 0 to 60"),
        (tokens - VOCABULARY, "expected 0 to 60"),
    ]:
        with pytest.raises(RunError, match=says):
            recorded.cached(model, "embed", wrong, root, step=3)
    with pytest.raises(UserError, match=r"no site 'blocks\.0\.mpl'"):
        recorded.cached(model, "blocks.0.mpl", tokens, root, step=3)
    edit = {"blocks.0.mlp": ablate([3])}
    with intervene(model, edit), pytest.raises(RunError, match=r"inside intervene\(\)"):
        recorded.cached(model, "embed", tokens, root, step=3)
    assert not root.exists()


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    model, tokens = tiny_model(), some_tokens()
    kept = recorded.cached(model, "embed", tokens, tmp_path, step=1)["embed"]

    def full(self, chunk):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(recorded._ArrayWriter, "_put", full)
        with pytest.raises(RunError, match="no space left on device"):
            recorded.cached(model, "embed", tokens, tmp_path, step=2)
    assert len(list(tmp_path.iterdir())) == 1
    again = recorded.cached(model, "embed", tokens, tmp_path, step=1)["embed"]
    assert again.values.filename == kept.values.filename


def test_a_damaged_recording_is_made_again(tmp_path):
    model, tokens = tiny_model(), some_tokens()
    before = recorded.cached(model, "embed", tokens, tmp_path, step=1)["embed"].values.tolist()
    (folder,) = tmp_path.iterdir()
    with (folder / "embed.values.npy").open("r+b") as file:
        file.truncate(200)
    again = recorded.cached(model, "embed", tokens, tmp_path, step=1)["embed"]
    assert again.values.tolist() == before
    assert list(tmp_path.iterdir()) == [folder]


def test_old_leftovers_are_swept_and_young_ones_left_to_their_process(tmp_path):
    for name, age in (("old", 2 * 86400), ("young", 60)):
        left = tmp_path / f".tmp-1-{name}"
        left.mkdir()
        os.utime(left, (time.time() - age, time.time() - age))
    recorded.cached(tiny_model(), "embed", some_tokens(), tmp_path, step=1)
    names = [entry.name for entry in tmp_path.glob(".tmp-*")]
    assert names == [".tmp-1-young"]


def test_a_model_in_training_is_recorded_in_evaluation_and_left_training(tmp_path):
    model, tokens = tiny_model("topk", dropout=0.5), some_tokens()
    expected = recorded.cached(model, "blocks.1.stream", tokens, tmp_path / "a", step=1)
    model.train()
    got = recorded.cached(model, "blocks.1.stream", tokens, tmp_path / "b", step=1)
    assert model.training
    assert np.array_equal(got["blocks.1.stream"].values, expected["blocks.1.stream"].values)
