"""In compiled programs the nodes that compute the answer are found, and no others."""

from functools import cache

import pytest
import torch
from support.asked_programs import asked_of, means_of
from support.programs import PROGRAMS

from pellucid.eval.circuits.circuit import Circuit
from pellucid.eval.circuits.find import find
from pellucid.eval.circuits.measured import fitted
from pellucid.eval.circuits.nodes import Nodes, nodes_of
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.settings import Settings, settings_of

UNIQUE = ("induction", "quote", "variable")
"""Programs whose every head is needed. Of the steps of the others, some never decide a pair."""


@cache
def searched(name: str, mlp: str, target: float = 0.05) -> tuple[Nodes, Circuit, set[str]]:
    program = PROGRAMS[name](mlp=mlp)
    nodes = nodes_of(program.model, "parts")
    about = (program.model, nodes, asked_of(program), means_of(program, nodes))
    circuit = find(*about, Settings(target=target, steps=60), seed=0, name=name)
    return nodes, circuit, {f"{site}:{unit}" for site, unit in program.nodes}


def auroc(scores: torch.Tensor, true: torch.Tensor) -> float:
    """The share of pairs of a true and a false node that are in order; ties count half."""
    gap = scores[true][:, None] - scores[~true]
    return ((gap > 0).double() + 0.5 * (gap == 0)).mean().item()


@pytest.mark.parametrize("mlp", ["dense", "topk"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_true_nodes_rank_before_decoys(name, mlp):
    nodes, circuit, true = searched(name, mlp)
    found = set(nodes.names(circuit.kept.nonzero()[:, 0].tolist()))
    assert circuit.task == name and circuit.loss <= circuit.target and not circuit.censored
    assert found == true if name in UNIQUE else found and found <= true
    assert auroc(circuit.scores, torch.tensor([n in true for n in nodes.names()])) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["quick", "headline"])
def test_every_profile_finds_the_one_head(profile):
    program = PROGRAMS["quote"]()
    nodes = nodes_of(program.model, "parts")
    about = (program.model, nodes, asked_of(program), means_of(program, nodes))
    circuit = find(*about, settings_of(profile, 0.05), seed=0)
    names = nodes.names(circuit.kept.nonzero()[:, 0].tolist())
    assert set(names) == {f"{site}:{unit}" for site, unit in program.nodes}


def test_scores_rank_the_circuit_first():
    _, circuit, _ = searched("depth", "dense")
    order = circuit.scores.argsort(descending=True)
    assert circuit.kept[order].tolist() == [True] * circuit.size + [False] * (
        len(circuit.kept) - circuit.size
    )


def test_the_same_seed_gives_the_same_circuit_bit_for_bit():
    _, first, _ = searched("depth", "topk")
    searched.cache_clear()
    _, again, _ = searched("depth", "topk")
    assert torch.equal(first.scores, again.scores) and torch.equal(first.kept, again.kept)
    assert (first.loss, first.readout) == (again.loss, again.readout)


def test_a_circuit_that_cannot_be_good_enough_is_the_whole_model():
    nodes, circuit, _ = searched("quote", "dense", target=1e-6)
    assert circuit.censored and circuit.size == len(nodes) and circuit.loss > 1e-6


@pytest.mark.parametrize("lean", [0.0, 5.0, 20.0, -100.0])
def test_margins_that_lean_to_one_side_are_read_as_well(lean):
    """A circuit may prefer one answer by much, and still tell the prompts apart."""
    wants = torch.arange(64) < 32
    tokens = torch.zeros(64, 1, dtype=torch.long)
    asked = Asked(tokens, tokens[:, 0], tokens[:, 0], tokens[:, 0] + 1, wants)
    noise = torch.randn(64, generator=torch.Generator().manual_seed(0)).double()
    margins = torch.where(wants, 1.0, -1.0).double() + 0.2 * noise
    loss = asked.loss(margins, fitted(asked, margins)).item()
    readout = fitted(asked, margins + lean)
    assert asked.loss(margins + lean, readout).item() == pytest.approx(loss, rel=1e-6)
    assert loss < 0.03
