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
from support.jobs import touched, waiting

from pellucid import load
from pellucid.errors import UserError
from pellucid.eval import evaluate, saved, workbench
from pellucid.eval.aside import aside
from pellucid.eval.concepts.compared import compared
from pellucid.eval.concepts.metrics import coverage, k_sparse
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import harvested
from pellucid.eval.processes import Later, Lost
from pellucid.eval.score import NoValue
from pellucid.eval.suite import METRICS, SUITES
from pellucid.eval.taking import taken
from pellucid.models import ablate, intervene, record

HOW = {"suite": "quick", "split": "val", "seed": 0, "labels": None, "dense": None}
ALONE = ("induction", "calibration")


def scores(run, **how):
    found = evaluate(run, suite="standard", progress=False, **how)
    return [replace(score, seconds=0.0) for score in found]


@pytest.mark.slow
def test_scores_do_not_depend_on_another_process(folder, monkeypatch, two_threads):
    """Metrics of models alone come from it, and stand where they stood."""
    few = {"metrics": ("rule", "induction", "bits_per_byte", "concept_coverage", "calibration")}
    with monkeypatch.context() as patch:
        patch.setattr(Later, "taken_back", lambda _: False)
        shared = scores(load(folder), **few)
    monkeypatch.setattr(import_module("pellucid.eval.evaluate"), "spare", lambda: 0)
    assert shared == scores(load(folder), **few)
    assert list(dict.fromkeys(s.metric.partition(":")[0] for s in shared))[-1] == "calibration"


def test_a_model_that_was_changed_in_memory_is_the_one_that_is_scored(folder, other):
    run, same = load(folder), load(folder)
    with torch.no_grad():
        run.model.embedding.weight.mul_(3)
    for one, here in ((same, False), (run, True)):
        asked = aside(one, ["rule", *ALONE], **HOW)
        assert tuple(asked.begun) == ALONE
        if here:
            for later in asked.begun.values():
                with pytest.raises(Lost):
                    later.get()
        assert values(asked.scores(alike, taker(one))) == values(taken_of(one, *ALONE))
    assert values(taken_of(run, *ALONE)) != values(taken_of(same, *ALONE))


def values(found):
    return {
        name: [(s.metric, s.value, s.controls) for s in scores] for name, scores in found.items()
    }


def taker(run, **how):
    """Takes a metric in this process."""
    bench = workbench(run, **HOW | how)
    return lambda name: taken(bench, name, METRICS[name])


def taken_of(run, *names, **how):
    return {name: taker(run, **how)(name) for name in names}


@pytest.mark.parametrize(
    "name", [n for n, m in METRICS.items() if m.alone and n != "interchange_accuracy"]
)
def test_metrics_of_models_alone_do_not_read_the_text(folder, name):
    """Which another process would do anew. Interchange does: it tells of layers that are silent."""
    bench = workbench(load(folder), **HOW)
    for reader in (bench.reader, bench.twin):
        reader.read_end_to_end = lambda: pytest.fail("it read the text")
    assert taken(bench, name, METRICS[name])


def test_metrics_that_were_not_begun_are_taken_here(folder, other, tmp_path):
    """While another process is at the first of them; none is taken twice."""
    run, here = load(folder), []
    Later(partial(waiting, tmp_path / "done"))
    asked = aside(run, ALONE, **HOW)

    def take(name):
        here.append(name)
        return [name]

    found = asked.scores(alike, take)
    touched(tmp_path / "done")
    assert here == [*reversed(ALONE)] and found == {name: [name] for name in ALONE}


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
            assert aside(run, ALONE, **HOW | {"dense": beside}).begun == {}
    assert list(aside(beside, ["calibration"], **HOW).begun) == ["calibration"]


def test_nothing_is_aside_of_a_dense_run_whose_weights_are_elsewhere(folder, other):
    beside = load(folder, device="meta")
    assert aside(load(folder), ALONE, **HOW | {"dense": beside}).begun == {}


def test_a_number_of_the_model_that_is_no_weight_tells_it_apart(folder):
    run, other = load(folder), load(folder)
    assert saved.digest(run) == saved.digest(other)
    run.model.blocks[0].mlp.config = replace(run.model.blocks[0].mlp.config, k=1)
    assert saved.digest(run) != saved.digest(other)


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
    with pytest.raises(Lost):
        asked.begun[metric].get()
    assert values(asked.scores(alike, taker(run, **how))) == values(taken_of(run, metric, **how))


def alike(items, what, length):
    return items


def test_labels_that_only_this_process_can_import_are_no_hindrance(folder, other, monkeypatch):
    script = ModuleType("a_script")
    script.says = lambda text, name: []
    script.says.families = {"a": "dev"}
    monkeypatch.setitem(sys.modules, "a_script", script)
    run, how = load(folder), HOW | {"labels": "a_script:says"}
    asked = aside(run, ["calibration"], **how)
    with pytest.raises(UserError, match="cannot be imported"):
        asked.begun["calibration"].get()
    found = asked.scores(alike, taker(run, **how))
    assert values(found) == values(taken_of(run, "calibration", **how))


def test_nothing_is_aside_of_units_or_of_a_large_model(folder, other, monkeypatch):
    assert aside(load(folder), ["rule"], **HOW).begun == {}
    monkeypatch.setattr(saved, "LARGEST", 100)
    nothing = aside(load(folder), ALONE, **HOW)
    assert nothing.begun == {} and nothing.scores(alike, pytest.fail) == {}


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
