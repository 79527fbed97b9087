"""Weight-sparse training: the projection holds after every step, on disk, and in any split of work."""

import numpy as np
import pytest
import torch
from support.training import assert_same_training, finish, launch, small

from pellucid.errors import ConfigError
from pellucid.experiments import run_config
from pellucid.models import ModelConfig, Transformer
from pellucid.models.constraint import CONSTRAINTS
from pellucid.models.mlp import MLPS
from pellucid.run import RunFolder, load
from pellucid.train import train
from pellucid.training.schedule import rate

WORDS = (
    "constraint=weight_topk",
    "constraint.density=0.2",
    "constraint.per_neuron=2",
    "head.bigram=true",
    "train.lr=0.01",
    "train.steps=20",
    "train.revive_budget=0",
)


def constrained(**fields) -> Transformer:
    config = ModelConfig(
        n_layers=1,
        d_model=16,
        mlp=MLPS["dense"].Config(width=48),
        constraint=CONSTRAINTS["weight_topk"].Config(**fields),
    )
    return Transformer(config, vocab_size=30, seed=0)


def expected_mask(name: str, matrix: torch.Tensor, density: float, per_neuron: int) -> np.ndarray:
    """The stated rule, entry by entry: guarded ones first, then the largest, the first of equals."""
    size = matrix.abs().double().numpy()
    guarded = np.zeros(size.shape, bool)
    if not name.startswith(("embedding", "head")):
        lines = (size.T, guarded.T) if name.endswith("w_o") else (size, guarded)
        for line, mark in zip(*lines, strict=True):
            mark[np.argsort(-line, kind="stable")[:per_neuron]] = True
    keep = max(int(density * size.size), int(guarded.sum()))
    order = np.argsort(-np.where(guarded, np.inf, size).ravel(), kind="stable")
    mask = np.zeros(size.size, bool)
    mask[order[:keep]] = True
    return mask.reshape(size.shape)


def matrices(model) -> dict[str, torch.Tensor]:
    named = model.named_parameters()
    return {n: p.detach().clone() for n, p in named if p.ndim == 2 and not n.endswith("bigram")}


def test_the_mask_is_exactly_the_stated_one():
    model = constrained(density=0.15, per_neuron=2)
    with torch.no_grad():  # many equal magnitudes
        for parameter in model.parameters():
            parameter.copy_((parameter * 20).round() / 20)
    before = matrices(model)
    model.constraint.project(model, 1.0)
    for name, matrix in matrices(model).items():
        mask = torch.from_numpy(expected_mask(name, before[name], 0.15, 2))
        assert torch.equal(matrix, torch.where(mask, before[name], 0)), name


def test_the_density_falls_linearly_between_its_two_points():
    constraint = CONSTRAINTS["weight_topk"].Config(density=0.1, begin=0.2, end=0.6).build()
    densities = [constraint.density_at(p) for p in (0.0, 0.2, 0.4, 0.6, 1.0)]
    assert densities == pytest.approx([1.0, 1.0, 0.55, 0.1, 0.1])


def test_the_rate_rises_as_weights_thin_out():
    config = small("constraint=weight_topk").train
    assert config.schedule == "sharkfin"
    assert rate(config, 10, 0.25) == pytest.approx(2 * rate(config, 10, 1.0))


def test_choosing_the_constraint_brings_its_recipe_and_words_still_decide():
    assert run_config(["tiny", "constraint=weight_topk"]).train.eps == 0.1
    own = run_config(["tiny", "train.eps=1e-6", "constraint=weight_topk"]).train
    assert (own.eps, own.gradient) == (1e-6, "rms")
    assert run_config(["tiny"]).train.gradient == "clip"
    assert run_config(["tiny", "constraint=none"]).train.gradient == "clip"


def test_every_checkpoint_holds_the_constraint_also_when_loaded(tmp_path):
    assert train(small(*WORDS, "train.checkpoint_every=1", "train.keep=20"), tmp_path / "run") == 0
    constraint = small(*WORDS).model.constraint.build()
    for step in (4, 9, 12, 20):
        model = load(tmp_path / "run", step=step).model
        density = constraint.density_at(step / 20)
        for name, matrix in matrices(model).items():
            kept = int(expected_mask(name, matrix, density, 2).sum())
            assert int((matrix != 0).sum()) == kept, (step, name)
        before = matrices(model)
        model.constraint.project(model, step / 20)
        assert all(torch.equal(m, before[n]) for n, m in matrices(model).items())
    assert (load(tmp_path / "run").model.head.bigram != 0).float().mean() > 0.9
    # The manifest counts what is left in the end, not what there is before the first step.
    left = sum(int(p.count_nonzero()) for p in load(tmp_path / "run").model.parameters())
    assert RunFolder(tmp_path / "run").read_manifest()["account"]["nonzero"] == left


def test_an_interrupted_sparse_run_resumes_bit_for_bit(tmp_path):
    code, out = finish(launch(tmp_path / "whole", "-", 0, *WORDS))
    assert code == 0, out
    assert finish(launch(tmp_path / "cut", "step", 7, *WORDS))[0] == 75
    assert finish(launch(tmp_path / "cut", "-", 0, *WORDS))[0] == 0
    a, b = (load(tmp_path / name).model.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_two_processes_constrain_like_one(tmp_path):
    words = [*WORDS, "train.precision=fp64", "train.steps=50", "dropout=0", "train.log_every=1"]
    assert finish(launch(tmp_path / "one", "-", 0, *words))[0] == 0
    for parallel in ("ddp", "fsdp2"):
        two = [*words, f"train.parallel={parallel}"]
        code, out = finish(launch(tmp_path / parallel, "-", 0, *two, processes=2))
        assert code == 0, out
        assert_same_training(tmp_path / "one", tmp_path / parallel)


def test_a_density_below_the_minimum_per_neuron_is_refused():
    with pytest.raises(ConfigError, match="a density of at least 0.25 is accepted"):
        constrained(density=0.2, per_neuron=4)
    with pytest.raises(ConfigError, match="at least begin, 0.7, is accepted"):
        constrained(begin=0.7)
