"""Circuits that are searched for and measured while norms are held."""

import pytest
import torch
from support.marks import slow_but
from support.planted_parts import BIG, ONE, SAYS_1, asked, planted
from support.small import small_model

from pellucid.eval.circuits import edge_sizes
from pellucid.eval.circuits.bases import means, resampled
from pellucid.eval.circuits.circuit import Circuit, Placed
from pellucid.eval.circuits.find import find
from pellucid.eval.circuits.frozen import held_at, scales_of
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import Asked, margins_of
from pellucid.eval.circuits.prune import _slope, rows_of
from pellucid.eval.circuits.settings import Settings
from pellucid.models.norm import NORMS

UP, DOWN = ((0, {"tok1": 1.0}, 0.0, {"waste": sign * BIG}) for sign in (1, -1))
STEADY = (0, {ONE: 1.0}, 0.0, {"out2": 4.0})
"""Two neurons that undo each other and one logit: either of the two alone moves it by the norm."""


@pytest.fixture
def pairs(tokens) -> Asked:
    """Two pairs for a small model, of which the second is of other lengths."""
    rows = torch.cat([tokens, tokens[:1].flip(1)])
    last, first = torch.tensor([23, 20, 23, 22]), torch.tensor([3, 4, 3, 4])
    return Asked(rows, last, first, first + 5, torch.arange(4) < 2)


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_the_slope_of_a_mask_is_that_of_the_held_function(norm, pairs):
    """Against differences of a pass under `frozen`, and unlike the slope of norms that follow."""
    model = small_model("dense", norm=NORMS[norm].Config())
    nodes, generator = nodes_of(model), torch.Generator().manual_seed(2)
    base = resampled(model, nodes, pairs.tokens, pairs.partner, pairs.last)
    mask = 0.2 * torch.randn(1, len(nodes), generator=generator, dtype=torch.float64)
    kept, temperature, penalty = (mask[0] > 0).double(), 0.3, torch.tensor([0.01]).double()
    about = (mask, penalty, temperature)
    found = _slope(model, nodes, pairs.holding(model), base, *about)[0]
    free = _slope(model, nodes, pairs, base, *about)[0]

    def loss(share: torch.Tensor) -> float:
        with torch.no_grad(), held_at(model, scales_of(model, pairs.tokens)):
            return pairs.loss(margins_of(model, nodes, pairs, share, base)).item()

    soft = torch.sigmoid(mask[0] / temperature)
    for node in found.abs().argsort(descending=True)[::23].tolist():
        ends = []
        for step in (-1e-5, 1e-5):
            share = kept.clone()
            share[node] += step
            ends.append(loss(share))
        wanted = (ends[1] - ends[0]) / 2e-5 + penalty.item()
        wanted *= (soft * (1 - soft) / temperature)[node].item()
        assert found[node].item() == pytest.approx(wanted, rel=1e-4, abs=1e-8)
    assert (found - free).norm() > 0.01 * free.norm()


def searched(model, **changes) -> tuple[Circuit, float]:
    """The circuit of a planted model, and its loss where norms are held, taken by itself."""
    nodes, prompts = nodes_of(model, "parts"), asked(12, 1)
    base = means(model, nodes, [asked(12, 5).tokens])
    settings = Settings(steps=40, **changes)
    circuit = find(model, nodes, prompts, base, settings, seed=0)
    with torch.no_grad(), held_at(model, scales_of(model, prompts.tokens)):
        margins = margins_of(model, nodes, prompts, circuit.kept.float(), base)
    return circuit, prompts.loss(margins, circuit.readout).item()


def test_a_circuit_of_norms_is_found_only_where_they_follow():
    """The model as a whole does not do the task, and without one neuron its norms do."""
    model = planted(UP, DOWN, STEADY)
    cheat, held = searched(model)
    assert not cheat.censored and held > cheat.target
    honest, held = searched(model, frozen_norm=True)
    assert honest.censored and honest.size == len(nodes_of(model, "parts"))
    assert honest.loss == pytest.approx(held, abs=1e-6)


def test_with_held_norms_what_does_the_task_is_found_and_measured():
    circuit, held = searched(planted(SAYS_1, UP, DOWN, STEADY), frozen_norm=True)
    names = nodes_of(planted(SAYS_1), "parts").names(circuit.kept.nonzero()[:, 0])
    assert names == ["blocks.0.mlp:0"] and not circuit.censored
    assert circuit.loss == pytest.approx(held, abs=1e-6)


def test_some_of_the_rows_bring_their_scales(pairs):
    model = small_model("dense")
    nodes, held = nodes_of(model), pairs.holding(model)
    base = resampled(model, nodes, pairs.tokens, pairs.partner, pairs.last)
    some, mine = rows_of(held, base, torch.tensor([1]))
    share = torch.zeros(len(nodes), dtype=torch.float64)
    whole = margins_of(model, nodes, held, share, base)
    assert torch.allclose(margins_of(model, nodes, some, share, mine), whole[[1, 3]], atol=1e-9)


@pytest.mark.parametrize("grain", slow_but(["channels"], ["channels", "parts"]))
def test_edges_are_left_out_with_norms_held(grain, pairs):
    """Norms are held at what they are with all edges there, also in passes that lack some."""
    model = small_model("topk")
    nodes = nodes_of(model, grain)
    kept = torch.ones(len(nodes), dtype=torch.bool)
    circuit = Circuit("t", kept, torch.zeros(len(nodes)), 0.0, 0.15)
    base = means(model, nodes, [pairs.tokens], [pairs.last])

    def effects(prompts: Asked) -> dict[tuple[str, str, str | None], float]:
        edges = edge_sizes.measure(Placed(model, nodes, circuit, prompts, base), tried=8)["edges"]
        found = {(e["source"], e["target"], e["through"]): e["effect"] for e in edges}
        return {edge: effect for edge, effect in found.items() if effect is not None}

    held = pairs.holding(model)
    with held.norms(model):
        found = effects(held)
    with held_at(model, scales_of(model, pairs.tokens)):
        wanted = effects(pairs)
    assert found == pytest.approx(wanted, abs=1e-12) and len(found) == 8
    free = effects(pairs)
    both = free.keys() & found.keys()
    assert any(abs(free[edge] - found[edge]) > 1e-3 * abs(free[edge]) for edge in both)
