"""What another process takes part in is what one process alone would have found."""

import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
import torch

from pellucid import cli, load
from pellucid.errors import EXIT_OK
from pellucid.eval import aside as module
from pellucid.eval import evaluate
from pellucid.eval.aside import aside
from pellucid.eval.concepts.compared import compared
from pellucid.eval.concepts.metrics import coverage, k_sparse
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import harvested
from pellucid.eval.processes import Lost, begun
from pellucid.eval.score import NoValue
from pellucid.eval.suite import METRICS, SUITES
from pellucid.models import ablate, intervene, record

HOW = {"suite": "quick", "split": "val", "seed": 0, "labels": None, "dense": None}
WORDS = (
    "tiny mlp=topk mlp.width=48 mlp.k=5 n_layers=2 d_model=16 attention.n_heads=2 context=64 "
    "data=generated data.n_documents=60 data.vocab_size=300 train.steps=2 train.batch=2"
).split()
ALONE = ("induction", "calibration")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("aside") / "run"
    assert cli.main(["train", *WORDS, f"run={path}"]) == EXIT_OK
    return path


@pytest.fixture(scope="module")
def other():
    with begun(1):
        yield


def scores(run, **how):
    found = evaluate(run, suite="standard", progress=False, **how)
    return [replace(score, seconds=0.0) for score in found]


@pytest.mark.slow
def test_scores_do_not_depend_on_another_process(folder, monkeypatch, two_threads):
    """Metrics of models alone come from it, and stand where they stood."""
    few = {"metrics": ("rule", "induction", "bits_per_byte", "concept_coverage", "calibration")}
    with monkeypatch.context() as patch:
        patch.setattr(module, "_taken", lambda *_, **__: pytest.fail("they were taken here"))
        shared = scores(load(folder), **few)
    monkeypatch.setattr(import_module("pellucid.eval.evaluate"), "spare", lambda: 0)
    assert shared == scores(load(folder), **few)
    assert list(dict.fromkeys(s.metric.partition(":")[0] for s in shared))[-1] == "calibration"


def test_a_model_that_was_changed_in_memory_is_the_one_that_is_scored(folder, other):
    run, saved = load(folder), load(folder)
    with torch.no_grad():
        run.model.embedding.weight.mul_(3)
    for one, here in ((saved, False), (run, True)):
        asked = aside(one, ["rule", *ALONE], **HOW)
        assert asked.names == ALONE
        if here:
            with pytest.raises(Lost):
                asked.begun.get()
        found = asked.scores(alike)
        assert list(found) == list(ALONE)
        assert values(found) == values(module._taken(one, ALONE, **HOW))
    assert values(module._taken(run, ALONE, **HOW)) != values(module._taken(saved, ALONE, **HOW))


def values(found):
    return [(score.metric, score.value, score.controls) for name in found for score in found[name]]


def hooked(model):
    return model.blocks[0].register_forward_hook(lambda *_: None)


@contextmanager
def patched(model):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.blocks[0], "forward", lambda *read: read[0])
        yield


DONE = {
    "edited": lambda model: intervene(model, {"blocks.1.mlp": ablate()}),
    "recorded": lambda model: record(model, "blocks.1.mlp"),
    "hooked": hooked,
    "hooked everywhere": lambda _: torch.nn.modules.module.register_module_forward_hook(print),
    "patched": patched,
    "in half precision": lambda _: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("what", DONE)
def test_nothing_is_aside_of_a_model_that_does_what_its_weights_do_not_tell(folder, other, what):
    run, beside = load(folder), load(folder)
    for changed in (run, beside):
        with DONE[what](changed.model):
            assert aside(run, ALONE, **HOW | {"dense": beside}).names == ()
    assert aside(beside, ["calibration"], **HOW).names == ("calibration",)


def test_nothing_is_aside_of_a_dense_run_whose_weights_are_elsewhere(folder, other):
    beside = load(folder, device="meta")
    assert aside(load(folder), ALONE, **HOW | {"dense": beside}).names == ()


def test_a_number_of_the_model_that_is_no_weight_tells_it_apart(folder):
    run, saved = load(folder), load(folder)
    assert module._digest(run) == module._digest(saved)
    run.model.blocks[0].mlp.config = replace(run.model.blocks[0].mlp.config, k=1)
    assert module._digest(run) != module._digest(saved)


@pytest.mark.parametrize("name", ["calibration", "added"])
def test_metrics_are_those_of_the_process_that_asks(folder, other, monkeypatch, name):
    """Also where the other process has another of the same name."""
    monkeypatch.setitem(METRICS, name, METRICS["bytes_per_token"]._replace(alone=True))
    is_taken_here(load(folder), name, HOW)


@pytest.mark.parametrize("name", ["quick", "added"])
def test_suites_are_those_of_the_process_that_asks(folder, other, monkeypatch, name):
    monkeypatch.setitem(SUITES, name, replace(SUITES["quick"], tokens=2048))
    is_taken_here(load(folder), "calibration", HOW | {"suite": name})


def is_taken_here(run, metric, how):
    asked = aside(run, [metric], **how)
    assert asked.names == (metric,)
    with pytest.raises(Lost):
        asked.begun.get()
    assert values(asked.scores(alike)) == values(module._taken(run, [metric], **how))


def alike(items, what, length):
    return items


def test_labels_that_only_this_process_can_import_are_no_hindrance(folder, other, monkeypatch):
    script = ModuleType("a_script")
    script.says = lambda text, name: []
    script.says.families = {"a": "dev"}
    monkeypatch.setitem(sys.modules, "a_script", script)
    run, how = load(folder), HOW | {"labels": "a_script:says"}
    found = aside(run, ["calibration"], **how).scores(alike)
    assert values(found) == values(module._taken(run, ["calibration"], **how))


def test_nothing_is_aside_of_units_or_of_a_large_model(folder, other, monkeypatch):
    assert aside(load(folder), ["rule"], **HOW).names == ()
    monkeypatch.setattr(module, "LARGEST", 100)
    nothing = aside(load(folder), ALONE, **HOW)
    assert nothing.names == () and nothing.scores(lambda *items: items) == {}


def test_sites_are_compared_with_labels_by_two_processes(other, monkeypatch):
    """What one of them found, or why it found nothing, is kept here."""
    rng = np.random.default_rng(0)
    holds = rng.random((400, 3)) < 0.4
    document = np.arange(400) // 20
    truth = Truth(tuple("abc"), holds, np.full(400, True), document % 2 == 0, document)
    drawn = {f"{i}": rng.random((400, 8)) * (rng.random((400, 8)) < 0.2) for i in range(5)}
    drawn["4"] *= 0
    shared, alone = (harvested(drawn) for _ in range(2))
    compared.ahead(shared.values(), truth)
    picked = {name: compared(alone[name], truth).picked for name in "0123"}
    with monkeypatch.context() as patch:
        patch.setattr(compared, "find", lambda *_: pytest.fail("it is known already"))
        for name in "0123":
            assert np.array_equal(compared(shared[name], truth).picked, picked[name])
        with pytest.raises(NoValue, match="ever active"):
            compared(shared["4"], truth)
    systems = [type("System", (), {"harvest": kept})() for kept in (shared, alone)]
    for measure in (coverage, partial(k_sparse, k=2, precision=False)):
        ours, theirs = (measure(system, truth, seed=0) for system in systems)
        assert ours == theirs and ours["0"].value is not None and ours["4"].value is None
