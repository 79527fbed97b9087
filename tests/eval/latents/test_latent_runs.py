"""Whole evaluations of runs on the corpus `latent`: what a workbench is told, and what scores say."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pellucid.data import DataConfig, prepare
from pellucid.data.automata import LATENTS
from pellucid.data.latent import Latent
from pellucid.eval import workbench
from pellucid.eval.latents.filtering import filtered
from pellucid.eval.latents.recovery import latent_f1
from pellucid.eval.latents.regret import regret, regret_of
from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS
from pellucid.run import Run, RunFolder

LENGTH = 63


@pytest.fixture(scope="module")
def latent_data(tmp_path_factory):
    corpus = Latent.Config(n_documents=120, length=LENGTH)
    config = DataConfig(corpus=corpus, vocab_size=300, val_fraction=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(tmp_path_factory.mktemp("cache")))
        return prepare(config, progress=False)


def run_of(data, folder, *, d_model=16) -> Run:
    mlp = MLPS["topk"].Config(width=64, k=5)
    model = ModelConfig(n_layers=2, d_model=d_model, context=LENGTH + 1, mlp=mlp)
    transformer = Transformer(model, vocab_size=data.vocab_size, seed=4).eval()
    config = SimpleNamespace(model=model, seed=3)
    run = Run(RunFolder(folder), config, 40, transformer, data.tokenizer)
    run.__dict__["data"] = data
    return run


@pytest.fixture(scope="module")
def bench(latent_data, tmp_path_factory):
    return workbench(run_of(latent_data, tmp_path_factory.mktemp("run")))


def test_the_truth_of_the_stream_is_what_the_generator_drew(bench, latent_data):
    known, stream = bench.latents, bench.stream
    original = {
        d.name: d for d in Latent.Config(n_documents=120, length=LENGTH).build().documents()
    }
    states = known.states.reshape(stream.n_documents, LENGTH + 1, 5)
    for document, name in enumerate(stream.names):
        side = np.stack([original[name].side[latent][::2] for latent in LATENTS], axis=1)
        np.testing.assert_array_equal(states[document, 1:], side)
    assert known.length == LENGTH and (states[:, 0] == -1).all()
    symbols = known.symbols.reshape(-1, LENGTH + 1)[:, 1:]
    np.testing.assert_array_equal(
        known.reader.bits, filtered(known.process, symbols, dtype=np.float32).bits
    )


def test_labels_hold_where_the_latents_are(bench):
    table, states = bench.labels, bench.latents.states
    topics = table.select(names=[f"topic={n}" for n in range(8)])
    np.testing.assert_array_equal(topics.after, states[:, 2, None] == np.arange(8))
    depth = table.after[:, table.index("stack_depth=2")]
    np.testing.assert_array_equal(depth, states[:, 0] >= 3)
    known = table.known
    np.testing.assert_array_equal(table.before[known], table.after[np.flatnonzero(known) - 1])
    starts = bench.stream.offsets[:-1]
    assert not known[starts].any() and not known[starts + 1].any()
    assert known.sum() == bench.stream.n_documents * (LENGTH - 1)
    assert set(table.families) == {"dev", "test"}


def test_scores_name_their_references(bench):
    (score,) = regret(bench)
    uniform = np.log2(bench.vocab_size) - bench.latents.reader.bits.mean()
    assert score.value == pytest.approx(uniform, abs=0.3)
    assert score.controls["kneser_ney_5gram"] < score.controls["random_twin"]
    assert score.controls["kneser_ney_5gram"] > 0
    assert any("exact, by filtering 28,672 joint states" in flag for flag in score.flags)
    for found in latent_f1(bench):
        assert found.controls["token_only"] < 0.3 < found.controls["ceiling_perfect_reader"]
        assert found.value < found.controls["ceiling_perfect_reader"]


def test_other_corpora_have_no_latents_and_the_scores_say_so(make_run):
    bench = workbench(make_run("dense"))
    for score in (*regret(bench), *latent_f1(bench)):
        assert score.value is None
        assert (
            score.flags[0]
            == "no value: the corpus is not `latent`, the one whose latents are known"
        )


@pytest.mark.slow
def test_training_lowers_the_regret(latent_data, tmp_path):
    """A hundred steps of a small model: it pays less than at first, and more than perfection."""
    data = latent_data
    run = run_of(data, tmp_path, d_model=32)
    bench, model = workbench(run), run.model
    before = regret_of(bench.latents, bench.reader.end_to_end.bits, seed=0)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(100):
        tokens = data.rows(0, step, batch=16, context=LENGTH + 1).tokens
        logits = model(tokens[:, :-1]).logits
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
    model.eval()
    after = regret_of(bench.latents, workbench(run).reader.end_to_end.bits, seed=0)
    assert after.low > 0 and after.high < before.low - 2
