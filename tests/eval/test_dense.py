"""What may stand beside a run as its dense control, and what is said of its size."""

from types import SimpleNamespace

import pytest

from pellucid.errors import RunError
from pellucid.eval import workbench
from pellucid.eval.bootstrap import Interval
from pellucid.eval.controls import NO_PASS, under_controls
from pellucid.eval.suite import METRICS
from pellucid.models import Transformer
from pellucid.models.mlp import MLPS
from pellucid.models.sparsity import SPARSITIES

QUICK = {"suite": "quick", "split": "val"}


@pytest.fixture
def dense(make_run):
    return make_run("dense")


def changed(run, **model):
    """The run with a model of other fillings."""
    config = run.config.model.replace(**model)
    made = Transformer(config, vocab_size=run.data.vocab_size, seed=1).eval()
    object.__setattr__(run, "config", SimpleNamespace(model=config, seed=1))
    object.__setattr__(run, "model", made)
    return run


def test_a_run_is_no_control_of_itself(make_run, dense):
    with pytest.raises(RunError, match="is the run that is scored: another one, with mlp=dense"):
        workbench(dense, dense=dense, **QUICK)
    other_name = make_run("dense")
    other_name.folder.path = dense.folder.path / ".." / dense.folder.path.name
    with pytest.raises(RunError, match="is the run that is scored"):
        workbench(dense, dense=other_name, **QUICK)


def test_a_run_that_is_not_dense_is_no_dense_control(make_run, dense):
    with pytest.raises(RunError, match="is not dense: its layer 0 has mlp=topk; a run with mlp="):
        workbench(make_run(), dense=make_run(), **QUICK)
    mixed = {"mlp@1": MLPS["topk"].Config(width=64, k=5)}
    with pytest.raises(RunError, match="is not dense: its layer 1 has mlp=topk"):
        workbench(make_run(), dense=changed(dense, per_layer=mixed), **QUICK)


def test_neurons_that_are_kept_sparse_are_no_dense_control(make_run, dense):
    sparse = SPARSITIES["abs_topk"].Config(places=("mlp_neuron",))
    with pytest.raises(RunError, match="is not dense: it has site_sparsity at mlp_neuron"):
        workbench(make_run(), dense=changed(dense, site_sparsity=sparse), **QUICK)


def test_a_dense_run_of_other_data_is_refused(make_run, dense):
    dense.__dict__["data"] = SimpleNamespace(fingerprint="f00d")
    with pytest.raises(RunError, match="was trained on data f00d, and .*: a run on the same data"):
        workbench(make_run(), dense=dense, **QUICK)


def said(run, dense) -> list[str]:
    bench = workbench(run, dense=dense, **QUICK)
    one = lambda system: {None: Interval(1.0, 0.0, 2.0, 10, ())}
    [score] = under_controls(bench, "one", one, better=None, without=NO_PASS)
    assert score.controls["dense_neurons"] == 1.0
    return [flag for flag in score.flags if flag.startswith("dense_neurons")]


def test_a_number_beside_a_dense_run_of_another_size_says_so(make_run, dense):
    run = make_run()
    assert said(run, dense) == []
    wide = changed(dense, mlp=MLPS["dense"].Config(width=256))
    ours, theirs = (sum(p.numel() for p in one.model.parameters()) for one in (run, wide))
    # One row of 16 of the embedding is active of 300; 5 units of 64 in both layers of the run.
    active = [theirs - 299 * 16, ours - 299 * 16 - 2 * 59 * 16]
    bench = workbench(run, dense=wide, **QUICK)
    [price] = METRICS["bits_per_byte_given_up"].measure(bench)
    remarks = [flag for flag in price.flags if flag.startswith("dense_neurons")]
    assert remarks == said(run, wide)
    assert remarks == [
        f"dense_neurons: not matched in size: {theirs:,} parameters against the run's {ours:,}, "
        f"{active[0]:,} active against {active[1]:,}"
    ]
