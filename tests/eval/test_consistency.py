"""Runs of other seeds: the same units are found whatever their order, others are not, and only
runs that differ in the seed alone are compared."""

import copy

import pytest
import torch

from pellucid.config import RunConfig
from pellucid.errors import RunError
from pellucid.eval import METRICS, evaluate, workbench
from pellucid.models import Transformer

LIMIT = {"suite": "standard", "split": "val"}


@pytest.fixture
def seeded(make_run):
    """seeded(seed) is a run with a whole configuration; its weights are those of `make_run`."""

    def make(seed: int, **changes):
        run = make_run("topk")
        config = RunConfig(model=run.config.model.replace(**changes), seed=seed)
        object.__setattr__(run, "config", config)
        return run

    return make


def in_another_order(run):
    """The same units, each somewhere else."""
    with torch.no_grad():
        for i, block in enumerate(run.model.blocks):
            order = torch.randperm(64, generator=torch.Generator().manual_seed(i))
            for name in ("w_enc", "b_enc", "w_dec"):
                weight = getattr(block.mlp, name)
                weight.copy_(weight[order].clone())
    return run


def with_other_weights(run):
    with torch.no_grad():
        for i, parameter in enumerate(run.model.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(99 + i))
            parameter.copy_(noise * parameter.std() + parameter.mean())
    return run


def consistency(run, *others):
    bench = workbench(run, seeds=others, **LIMIT)
    scores = METRICS["seed_consistency"].measure(bench)
    return {score.site: score for score in scores}


def test_units_in_another_order_are_found_again_and_other_ones_are_not(seeded):
    ours = seeded(1)
    again, foreign = in_another_order(seeded(2)), with_other_weights(seeded(3))
    same, other = consistency(ours, again), consistency(ours, foreign)
    both = consistency(ours, again, foreign)
    for site in ("blocks.0.mlp", "blocks.1.mlp"):
        assert same[site].value == pytest.approx(1.0, abs=1e-6)
        assert same[site].controls["rotated_units"] < 0.8
        assert isinstance(same[site].controls["random_twin"], float)
        assert other[site].value < 0.6
        assert both[site].value == pytest.approx(
            (same[site].value + other[site].value) / 2, abs=0.1
        )
        assert both[site].n == same[site].n + other[site].n


def test_layers_that_the_dense_run_alone_has_are_left_out(seeded, make_run, generated_data):
    dense = make_run("dense")
    deeper = dense.config.model.replace(n_layers=3)
    model = Transformer(deeper, vocab_size=generated_data.vocab_size, seed=5).eval()
    object.__setattr__(dense, "model", model)
    bench = workbench(seeded(1), seeds=[in_another_order(seeded(2))], dense=dense, **LIMIT)
    bench.controls = {name: bench.controls[name] for name in ("random_twin", "dense_neurons")}
    scores = METRICS["seed_consistency"].measure(bench)
    assert [score.site for score in scores] == ["blocks.0.mlp", "blocks.1.mlp"]
    for score in scores:
        assert 0 < score.controls["dense_neurons"] < score.value


def test_it_is_scored_where_other_seeds_are_named(seeded):
    run = seeded(1)
    scores = evaluate(run, suite="smoke", seeds=[in_another_order(seeded(2))], progress=False)
    found = [score for score in scores if score.metric == "seed_consistency"]
    assert [score.site for score in found] == ["blocks.0.mlp", "blocks.1.mlp"]
    [alone] = evaluate(run, suite="smoke", metrics=["seed_consistency"], progress=False)
    assert alone.value is None and "eval --seeds RUN" in alone.flags[0]
    assert "seed_consistency" not in {
        s.metric for s in evaluate(run, suite="smoke", progress=False)
    }


def test_only_the_seed_may_differ(seeded):
    run, wider = seeded(1), seeded(2, d_model=32)
    with pytest.raises(RunError, match="differ in their model; runs that differ in the seed alone"):
        workbench(run, seeds=[wider], **LIMIT)
    with pytest.raises(RunError, match="has seed 1, as another of the runs has"):
        workbench(run, seeds=[seeded(1)], **LIMIT)
    elsewhere = seeded(2)
    elsewhere.__dict__["data"] = copy.copy(run.data)
    object.__setattr__(elsewhere.data, "fingerprint", "0123")
    with pytest.raises(RunError, match="was trained on data 0123"):
        workbench(run, seeds=[elsewhere], **LIMIT)
