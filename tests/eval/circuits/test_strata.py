"""Circuits at distances between cue and answer, and of earlier checkpoints: where they are written."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.marks import slow_but

from pellucid import checkpoint
from pellucid.errors import UserError
from pellucid.eval.circuits import run as circuit_run
from pellucid.eval.circuits import strata
from pellucid.eval.circuits.asking import UNSEEN
from pellucid.eval.circuits.frozen import held_at, scales_of
from pellucid.eval.circuits.objective import Asked, margins_of
from pellucid.eval.circuits.run import Search
from pellucid.eval.circuits.settings import PROFILES, Settings
from pellucid.eval.tasks import TASKS, draw
from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS
from pellucid.run import Run

TASK = "var_if"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A search of a few steps."""
    monkeypatch.setitem(PROFILES, "quick", Settings(steps=6, drawn=4, pairs=2, rounds=1))
    monkeypatch.setattr(circuit_run, "ROWS", 8)


@pytest.fixture
def make_far(make_run):
    """make_far(context) is a run with room for prompts of some length."""

    def make(context: int) -> Run:
        run, mlp = make_run("topk"), MLPS["topk"].Config(width=64, k=5)
        model = ModelConfig(n_layers=2, d_model=16, context=context, mlp=mlp)
        made = Transformer(model, vocab_size=run.tokenizer.vocab_size, seed=4).eval()
        far = replace(run, config=SimpleNamespace(model=model, seed=3), model=made)
        far.__dict__["data"] = run.data
        return far

    return make


def searching(run: Run, **changes) -> Search:
    return Search(run=run, target=0.69, force=True, controls=False, grain="parts", **changes)


@pytest.mark.parametrize("held", slow_but([False], [False, True]))
def test_every_stratum_has_the_losses_of_its_own_prompts(make_far, held):
    """All pairs in one pass, by the logits at the end of each, as they are read a few at a time."""
    run = make_far(256)
    search = searching(run, frozen_norm=held)
    content, found = search.write(TASK), search.found(TASK)
    assert run.folder.read_circuits() == {TASK: content} and content["distance"] == 0
    assert [row["distance"] for row in content["strata"]] == [0, 8, 32, 128]
    share = found.circuit.kept.float()
    for row in content["strata"]:
        at = {"distance": row["distance"], "family": "dev", "seed": search.seed, "context": 256}
        n_pairs = UNSEEN if not row["distance"] else strata.PAIRS
        batch = draw(TASKS[TASK], run.tokenizer, n_pairs, **at)
        assert batch.lengths[0] > row["distance"] and row["reason"] is None
        asked = Asked.of(batch)
        with torch.no_grad():
            whole = asked.loss(margins_of(run.model, search.nodes, asked)).item()
            with (
                held_at(run.model, scales_of(run.model, asked.tokens)) if held else torch.no_grad()
            ):
                margins = margins_of(run.model, search.nodes, asked, share, found.base)
        assert row["model"] == pytest.approx(whole, abs=1e-5)
        loss = asked.loss(margins, found.circuit.readout).item()
        assert row["circuit"] == pytest.approx(loss, abs=1e-5)
    near = content["strata"][0]
    assert near["circuit"] == pytest.approx(content["losses"]["circuit_unseen"], abs=1e-5)
    assert near["model"] == pytest.approx(content["losses"]["model_unseen"], abs=1e-5)
    assert len({round(row["model"], 6) for row in content["strata"]}) == 4


def test_a_search_at_a_distance_sees_its_prompts_and_has_a_file_of_its_own(make_far):
    run = make_far(256)
    near, far = searching(run).write(TASK), searching(run, distance=32).write(TASK)
    assert run.folder.read_circuits() == {TASK: near, f"{TASK}@32": far}
    assert far["task"] == TASK and far["distance"] == 32
    assert len(far["example"]["tokens"]) > 32
    found = searching(run, distance=32).found(TASK)
    assert found.asking.searched.distance == found.asking.unseen.distance == 32
    assert {pair.form for pair in found.asking.searched.pairs} <= set(
        TASKS[TASK].dealt("loop", far=True)
    )
    (mine,) = [row for row in far["strata"] if row["distance"] == 32]
    assert mine["circuit"] == pytest.approx(far["losses"]["circuit_unseen"], abs=1e-5)


def test_strata_that_do_not_fit_the_context_say_so(make_far):
    run = make_far(128)
    rows = searching(run).write(TASK)["strata"]
    assert [row["model"] is None for row in rows] == [False, False, False, True]
    assert rows[3]["circuit"] is None and "at most the context, 128, fit" in rows[3]["reason"]
    with pytest.raises(UserError, match=r"distance 128: prompts have up to .* the context, 128"):
        searching(run, distance=128).write(TASK)


@pytest.mark.parametrize(
    ("distance", "task", "says"),
    [
        (5, TASK, "distance 5 is not accepted: 0, 8, 32, 128 tokens between cue and answer are"),
        (-8, TASK, "distance -8 is not accepted"),
        (32, "not_in", "task 'not_in' has no distance 32: .*; 0 is accepted"),
        (32, "own.jsonl", "task file own.jsonl has no distance 32: its pairs are as given"),
    ],
)
def test_a_distance_that_there_is_not_is_a_sentence(make_run, distance, task, says):
    with pytest.raises(UserError, match=says) as error:
        searching(make_run("topk"), distance=distance).write(task)
    assert "\n" not in str(error.value)


def test_an_earlier_checkpoint_leaves_the_newest_circuit_alone(make_far):
    run = make_far(128)
    for step in (20, run.step):
        checkpoint.folder(run.folder.checkpoints, step).mkdir(parents=True)
    newest = searching(run).write("not_in")
    early = searching(replace_step(run, 20)).write("not_in")
    far = searching(replace_step(run, 20), distance=8).write(TASK)
    assert "strata" not in newest
    assert (newest["step"], early["step"], far["step"]) == (run.step, 20, 20)
    wanted = {"not_in": newest, "not_in.step20": early, f"{TASK}@8.step20": far}
    assert run.folder.read_circuits() == wanted


def replace_step(run: Run, step: int) -> Run:
    """The run as it is loaded at another step."""
    early = replace(run, step=step)
    early.__dict__["data"] = run.data
    return early


@pytest.mark.parametrize("name", ["not_in@32", "own.step20", "own@8.step3"])
def test_no_file_of_pairs_bears_the_name_of_a_distance_or_a_step(make_run, name):
    with pytest.raises(UserError, match="name of a task at a distance or a step"):
        searching(make_run("topk")).write(f"{name}.jsonl")
