"""Sizes of circuits as scores: logarithms, geometric means, and nothing that is dropped."""

import copy
from math import log2

import pytest
import torch

from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.scores import (
    FULL,
    Part,
    Task,
    at_full_size,
    measured,
    not_asked,
    parts_of,
    scores,
)
from pellucid.eval.circuits.sizes import bits
from pellucid.eval.score import NO_VALUE

BETTER = measured(controls=True, edges=True)
CHECKS = {"nonsense_mapping": 256.0, "swapped_labels": 64.0, "permuted_weights": 16.0}
FILE = {
    "censored": False,
    "sizes": {"nodes": 4, "bits": 32.0, "pruned_edges": 8, "static_edges": 16}
    | {"effect_edges": 4, "dynamic_edges_per_token": 2.0},
    "reasons": {},
    "battery": [
        {"name": name, "value": 0.5, "reason": None, "least": {"nodes": 16, "bits": size}}
        for name, size in CHECKS.items()
    ]
    + [{"name": "random_twin", "value": None, "reason": "no twin was made", "least": None}],
    "faithful": {"nodes": 64, "bits": 128.0, "censored": False, "worst": "resample"}
    | {"fresh": {"loss": 0.25, "worst": "mean", "pairs": 64, "reason": None}},
    "pruned_edges": {"loss": 0.1, "censored": False},
    "accuracy": {"model": 1.0, "model_unseen": 0.9, "circuit_unseen": 0.5},
}


def changed(**fields):
    return copy.deepcopy(FILE) | fields


def by_name(found):
    return {score.metric: score for score in found}


def test_a_circuit_is_counted_in_logarithms_beside_its_controls():
    parts = parts_of(FILE)
    values = {metric: parts[metric].value for metric in BETTER}
    assert values == {
        "circuit_log2_bits": 5.0,
        "circuit_log2_nodes": 2.0,
        "circuit_censored": 0.0,
        "circuit_model_accuracy": 0.95,
        "circuit_faithful_log2_bits": 7.0,
        "circuit_faithful_log2_nodes": 6.0,
        "circuit_faithful_censored": 0.0,
        "circuit_nonsense_log2_ratio": 3.0,
        "circuit_log2_edges": 3.0,
        "circuit_log2_static_edges": 4.0,
        "circuit_log2_effect_edges": 2.0,
        "circuit_log2_dynamic_edges": 1.0,
    }
    controls = parts["circuit_log2_bits"].controls
    assert controls == {
        "nonsense_mapping": 8.0,
        "swapped_labels": 6.0,
        "random_twin": "no twin was made",
        "permuted_weights": 4.0,
    }
    assert parts["circuit_log2_nodes"].controls["nonsense_mapping"] == 4.0
    worst = parts["circuit_faithful_log2_bits"].flags
    assert worst == ("worst way: resample; on fresh pairs 0.250 nats at worst",)
    # Controls are searched for at the means alone, and are not beside the worst case.
    assert all(isinstance(c, str) for c in parts["circuit_faithful_log2_bits"].controls.values())


def test_a_circuit_of_nothing_counts_as_one_of_a_bit():
    empty = changed(sizes={"nodes": 0, "bits": 0.0, "pruned_edges": 0})
    found = parts_of(empty)
    assert [found[m].value for m in ("circuit_log2_bits", "circuit_log2_edges")] == [0.0, 0.0]
    assert found["circuit_nonsense_log2_ratio"].value == 8.0


def test_edges_of_which_a_part_alone_is_counted_are_no_number():
    said = "not counted: blocks.0.attention: its codes are chosen by distance, not by weights"
    found = parts_of(changed(reasons={"pruned_edges": said}))["circuit_log2_edges"]
    assert found.value is None and found.flags == (NO_VALUE + said,)
    other = parts_of(changed(reasons={"effect_edges": "judged by the gradient"}))
    assert other["circuit_log2_edges"].value == 3.0
    assert other["circuit_log2_effect_edges"].value == 2.0
    other = parts_of(changed(reasons={"effect_edges": f"judged by the gradient; {said}"}))
    assert other["circuit_log2_effect_edges"].value is None


def test_the_mean_over_tasks_is_geometric_and_keeps_what_is_censored():
    whole = changed(
        censored=True,
        sizes={"nodes": 1024, "bits": 2.0**11, "pruned_edges": 2**13, "static_edges": 2**12},
        reasons={"pruned_edges": "the circuit is the whole model: all of its edges count"},
        faithful={"nodes": 1024, "bits": 2.0**11, "censored": True, "worst": "model"},
    )
    found = {"a": Task(parts_of(FILE), 2.0, 10), "b": Task(parts_of(whole), 3.0, 20)}
    made = by_name(scores(found, BETTER, "test"))
    mean = made["circuit_log2_bits"]
    assert mean.value == log2((2.0**5 * 2.0**11) ** 0.5) == 8.0
    assert (mean.seconds, mean.tokens, mean.split, mean.better) == (5.0, 30, "test", "lower")
    assert any(flag == f"{FULL}1 of 2 tasks (b)" for flag in mean.flags)
    assert mean.controls["nonsense_mapping"] == 8.0
    assert mean.controls["random_twin"] == "no twin was made"
    # The mean of the real circuits is no better than that of the permuted weights, and says so.
    assert any("permuted_weights 4" in flag for flag in mean.flags)
    assert made["circuit_censored"].value == made["circuit_faithful_censored"].value == 0.5
    assert made["circuit_faithful_log2_bits"].value == 9.0
    # Nonsense of 256 bits beside a real circuit of 2,048: the ratio is below 1.
    assert made["circuit_nonsense_log2_ratio:b"].value == -3.0
    assert made["circuit_log2_bits:a"].value == 5.0
    unseen = [m for m, score in made.items() if any("on unseen prompts" in f for f in score.flags)]
    assert unseen and unseen == [m for m in made if m.startswith("circuit_faithful")]
    edges = made["circuit_log2_edges"]
    assert edges.value == (3 + 13) / 2 and f"{FULL}1 of 2 tasks (b)" in edges.flags
    assert made["circuit_log2_static_edges"].value == (4 + 12) / 2
    effect = made["circuit_log2_effect_edges"]
    assert effect.value is None and effect.flags[0].startswith(f"{NO_VALUE}b: effect_edges were")


def test_a_task_that_a_model_misses_counts_as_the_whole_model(make_run):
    nodes = nodes_of(make_run("dense").model)
    counted = {"sizes": {"pruned_edges": 64, "static_edges": None}, "reasons": {}}
    parts = at_full_size(nodes, "it misses it", list(BETTER), 0.75, counted)
    assert parts["circuit_log2_edges"] == Part(6.0, flags=(f"{FULL}it misses it",))
    assert parts["circuit_log2_static_edges"].value is None
    assert parts["circuit_model_accuracy"].value == 0.75
    every = torch.ones(len(nodes), dtype=torch.bool)
    for metric in ("circuit_log2_bits", "circuit_faithful_log2_bits"):
        assert parts[metric].value == log2(bits(nodes, every))
    assert parts["circuit_log2_nodes"].value == log2(len(nodes))
    assert parts["circuit_censored"].value == parts["circuit_faithful_censored"].value == 1.0
    assert parts["circuit_nonsense_log2_ratio"].value == 0.0
    assert parts["circuit_log2_bits"].flags == (f"{FULL}it misses it",)


def test_a_mean_is_not_taken_over_the_tasks_that_happen_to_be_there():
    tasks = {"a": Task(parts_of(FILE)), "b": Task(not_asked("no room", list(BETTER)))}
    made = by_name(scores(tasks, BETTER, "val"))
    for metric in BETTER:
        assert made[metric].value is None
        assert made[metric].flags[0] == f"{NO_VALUE}b: no room"
    assert made["circuit_log2_bits:a"].value == 5.0


@pytest.mark.parametrize(("controls", "edges", "n"), [(False, False, 4), (False, True, 8)])
def test_what_is_not_searched_for_is_no_metric(controls, edges, n):
    better = measured(controls=controls, edges=edges)
    bare = {k: v for k, v in FILE.items() if k not in ("faithful", "battery")}
    made = scores({"a": Task(parts_of(bare))}, better, "val")
    assert len(made) == 2 * n == 2 * len(better)
    assert "without controls" in made[0].controls["nonsense_mapping"]
