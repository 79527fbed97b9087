"""The edges of a whole model: counted without a list, they are those of a circuit of all nodes."""

import json
from dataclasses import replace
from math import log2
from types import SimpleNamespace

import pytest
import torch
from support.planted_circuit import everything
from support.small import VOCAB, filled, small_filling, small_model

from pellucid.eval.circuits import edge_sizes, edged, gates, in_text, prune_edges, whole
from pellucid.eval.circuits import run as circuit_run
from pellucid.eval.circuits.bases import zeros
from pellucid.eval.circuits.circuit import Placed
from pellucid.eval.circuits.content import content
from pellucid.eval.circuits.gates import LACKS, edges_of
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.paths import edges, parts_of
from pellucid.eval.circuits.run import Search
from pellucid.eval.circuits.scores import FULL, Task, measured, scores
from pellucid.eval.circuits.scores import parts_of as scored
from pellucid.eval.circuits.settings import PROFILES, Settings
from pellucid.models import ModelConfig, Transformer
from pellucid.models.head import HEADS


def every_edge(model, nodes):
    return edges_of(model, nodes, torch.ones(len(nodes), dtype=torch.bool))


@pytest.mark.parametrize("name", ["mlp=dense", "mlp=topk", "mlp=moe", "mlp=monet"])
def test_all_edges_are_counted(name, asked):
    model = Transformer(filled(name), vocab_size=VOCAB).double().eval()
    nodes = nodes_of(model)
    found = whole.counted(model, nodes, asked)["sizes"]
    listed = every_edge(model, nodes)
    weighed = int((~listed.weights().isnan()).sum())
    assert found["static_edges"] == weighed > 0
    assert found["unweighted_edges"] == len(listed) - weighed
    assert found["effect_edges"] == found["pruned_edges"] == len(listed)
    placed = Placed(model, nodes, everything(nodes), asked, zeros(nodes))
    assert found["dynamic_edges_per_token"] == pytest.approx(edge_sizes.dynamic(placed, listed))


def test_weights_that_are_0_are_no_edges(asked):
    model = small_model("dense", constraint=small_filling("constraint", "weight_topk"))
    nodes = nodes_of(model)
    before = whole.counted(model, nodes, asked)["sizes"]["static_edges"]
    with torch.no_grad():
        model.constraint.project(model, 1.0)
    found, listed = whole.counted(model, nodes, asked)["sizes"], every_edge(model, nodes)
    assert found["static_edges"] == len(listed) < before
    placed = Placed(model, nodes, everything(nodes), asked, zeros(nodes))
    assert found["dynamic_edges_per_token"] == pytest.approx(edge_sizes.dynamic(placed, listed))


def test_targets_that_are_too_many_to_compute_are_counted(asked, monkeypatch):
    model = small_model("moe")
    nodes = nodes_of(model)
    every = whole.counted(model, nodes, asked)
    monkeypatch.setattr(gates, "MOST", 8)
    assert "more than 8 targets" in every_edge(model, nodes).unknown[0]
    assert whole.counted(model, nodes, asked) == every
    # What has no weights is in no number of weights, and in all the others.
    assert [size for size, why in every["reasons"].items() if LACKS in why] == [
        "static_edges",
        "dynamic_edges_per_token",
    ]


def test_a_part_whose_edges_are_not_known_is_told(asked):
    model = small_model("topk", attention="codebook")
    found = whole.counted(model, nodes_of(model), asked)
    for size in ("unweighted_edges", "effect_edges", "pruned_edges"):
        assert LACKS in found["reasons"][size] and "by distance" in found["reasons"][size]


def test_edges_between_heads_and_neurons_are_those_that_are_measured(asked):
    model = small_model("topk")
    nodes = nodes_of(model, "parts")
    found = whole.counted(model, nodes, asked)
    n = len(list(edges(parts_of(nodes))))
    for size in ("unweighted_edges", "effect_edges", "pruned_edges"):
        assert found["sizes"][size] == n > 1000
    assert found["reasons"]["pruned_edges"] == whole.ALL
    assert found["sizes"]["static_edges"] is None and "stream" in found["reasons"]["static_edges"]
    model = small_model("memory")
    found = whole.counted(model, nodes_of(model, "parts"), asked)
    assert found["sizes"]["unweighted_edges"] is found["sizes"]["pruned_edges"] is None
    assert "write in no direction" in found["reasons"]["unweighted_edges"]


@pytest.fixture
def short(monkeypatch):
    """A search of a few steps."""
    settings = Settings(steps=4, penalties=(1e-3,), drawn=4, pairs=2, rounds=1)
    monkeypatch.setitem(PROFILES, "quick", settings)
    monkeypatch.setattr(circuit_run, "ROWS", 8)
    monkeypatch.setattr(in_text, "TOKENS", 500)
    monkeypatch.setattr(edged, "_mib", lambda found: {})
    monkeypatch.setattr(edged, "QUICK_STEPS", 2)
    monkeypatch.setattr(edged, "QUICK_TRIED", 2)
    monkeypatch.setattr(prune_edges, "TRIES", 2)


@pytest.fixture
def task(tmp_path) -> str:
    """Four pairs of short prompts."""
    pair = '{"prompt_a": "for %s", "prompt_b": "if %s", "answer_a": "+", "answer_b": "-"}\n'
    (tmp_path / "own.jsonl").write_text("".join(pair % (x, x) for x in "abcd"))
    return str(tmp_path / "own.jsonl")


@pytest.mark.usefixtures("short")
def test_a_censored_circuit_has_the_edges_of_the_model_and_is_in_the_mean(make_run, task):
    run = make_run("topk", n_layers=1)
    found = Search(run=run, target=0.01, force=True).found(task)
    written = content(found, run.tokenizer)
    full = edged.joined(written, edged.measured(found, edges=True))
    assert full["censored"] and full["edges"] == []
    attention, mlp = run.model.blocks[0].attention, run.model.blocks[0].mlp
    read = (attention.w_q, attention.w_k, attention.w_v, attention.w_o, mlp.w_enc, mlp.w_dec)
    n = sum(int((weight != 0).sum()) for weight in read)
    sizes = full["sizes"]
    assert sizes["static_edges"] == sizes["pruned_edges"] == sizes["effect_edges"] == n
    assert 0 < sizes["dynamic_edges_per_token"] < n
    made = scores({"own": Task(scored(full))}, measured(controls=False, edges=True), "val")
    (mean,) = (score for score in made if score.metric == "circuit_log2_edges")
    assert mean.value == log2(n) and any(flag.startswith(FULL) for flag in mean.flags)
    # Where nobody asked for pruned edges, there are none.
    plain = edged.measured(found, edges=False)
    assert all("pruned_edges" not in plain[key] for key in ("sizes", "reasons"))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("tag", [tag for tag in HEADS if tag != "unembed"])
def test_a_head_of_units_is_told_to_be_missing_in_the_edges(make_run, task, tag):
    plain = make_run("topk", n_layers=1)
    about = {"n_layers": 1, "d_model": 16, "context": 32, "mlp": plain.config.model.mlp}
    config = ModelConfig(**about, head=small_filling("head", tag))
    model = Transformer(config, vocab_size=plain.tokenizer.vocab_size, seed=4).eval()
    run = replace(plain, model=model, config=SimpleNamespace(model=config, seed=3))
    run.__dict__["data"] = plain.data
    search = Search(run=run, target=0.69, force=True, controls=False, edges=True)
    written = search.write(task)
    json.dumps(written, allow_nan=False)
    assert not written["censored"]
    why = f"head: what {type(model.head).__name__} reads and writes has no known edges"
    for size in ("static_edges", "effect_edges", "pruned_edges"):
        assert LACKS in written["reasons"][size] and why in written["reasons"][size]
    assert scored(written)["circuit_log2_edges"].value is None
