"""Sets of edges between heads and neurons, left out together."""

import pytest
import torch
from support.asking import asked_of
from support.marks import slow_but
from support.programs import PROGRAMS
from support.small import small_model

from pellucid.eval.circuits import edge_sizes
from pellucid.eval.circuits.bases import means
from pellucid.eval.circuits.circuit import Circuit, Placed
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import Readout, margins_of
from pellucid.eval.circuits.path_effects import effects
from pellucid.eval.circuits.path_sets import Paths
from pellucid.eval.circuits.paths import EMBED, LOGITS


@pytest.fixture
def some(asked):
    """Some heads and neurons of a small model, as a circuit."""
    model = small_model("topk")
    nodes = nodes_of(model, "parts")
    kept = torch.rand(len(nodes), generator=torch.Generator().manual_seed(0)) < 0.06
    kept[[nodes.number(f"blocks.{layer}.attention:{layer}") for layer in (0, 1)]] = True
    circuit = Circuit("t", kept, torch.zeros(len(nodes)), 0.7, 0.15, Readout(2.0, 0.1))
    return Paths.of(Placed(model, nodes, circuit, asked, means(model, nodes, [asked.tokens])), 5)


def numbers(paths, chosen):
    return torch.tensor([i for i, edge in enumerate(paths.edges) if chosen(edge)])


def loss_with(placed, share):
    """The loss with these shares of nodes, in nats, all edges being there."""
    asked = placed.asked
    with torch.no_grad():
        margins = margins_of(placed.model, placed.nodes, asked, share, placed.base)
    return float(asked.loss(margins, placed.circuit.readout))


@pytest.mark.parametrize("every", slow_but([8], [8, 1]))
def test_one_edge_alone_is_path_patching(some, every):
    whole, placed = some.loss(torch.zeros(0, dtype=torch.long)), some.placed
    assert whole == pytest.approx(loss_with(placed, placed.share), abs=1e-12)
    about = placed.model, placed.nodes, placed.asked, placed.base
    chosen = some.edges[::every]
    alone = effects(*about, chosen, placed.share, placed.circuit.readout)
    for i, edge in enumerate(chosen):
        found = some.loss(torch.tensor([i * every])) - whole
        assert found == pytest.approx(alone[edge.name], abs=1e-9)
    felt = sum(abs(effect) > 1e-5 for effect in alone.values())
    assert len(some.tried) == 5 and felt > 20 / every


def test_all_edges_out_of_a_node_are_the_node_at_its_base(some):
    """Left out everywhere, a source is as if it were no node of the circuit."""
    placed = some.placed
    for number in placed.circuit.kept.nonzero()[:, 0].tolist():
        (name,) = placed.nodes.names([number])
        gone = numbers(some, lambda edge, name=name: edge.source.name == name)
        share = placed.share
        share[number] = 0.0
        assert some.loss(gone) == pytest.approx(loss_with(placed, share), abs=1e-9), name


def test_without_any_edge_the_prompts_are_alike(some):
    everything = torch.arange(len(some.edges))
    first = some.loss(everything)
    into_logits = numbers(some, lambda edge: edge.target.name == LOGITS)
    assert first == pytest.approx(some.loss(into_logits), abs=1e-12)
    assert some.loss(numbers(some, lambda edge: edge.source.name == EMBED)) != first


def doubled():
    """The program of quotes, whose head is there twice, as a circuit of both."""
    program = PROGRAMS["quote"]()
    attention = program.model.blocks[0].attention
    d = attention.d_head
    for matrix in (attention.w_q, attention.w_k, attention.w_v):
        matrix[d : 2 * d] = matrix[:d]
    attention.w_o[:, d : 2 * d] = attention.w_o[:, :d]
    nodes, asked = nodes_of(program.model, "parts"), asked_of(program, pairs=8)
    kept = torch.tensor([name.startswith("blocks.0.attention") for name in nodes.names()])
    circuit = Circuit("quote", kept, kept.double(), 0.0, 0.15, Readout(10.0))
    base = means(program.model, nodes, [asked.tokens])
    return Placed(program.model, nodes, circuit, asked, base)


def test_heads_that_make_up_for_each_other_are_counted_when_both_lose_their_edges():
    found = edge_sizes.measure(doubled())
    assert max(abs(edge["effect"]) for edge in found["edges"]) < 0.0015
    # Of one of them: its keys find the quote, its values are moved, and the logits read it.
    counted = found["edges"][: found["sizes"]["effect_edges"]]
    assert sorted(edge["through"] or "" for edge in counted) == ["", "k", "v"]
    heads = {edge[end] for edge in counted for end in ("source", "target")} - {EMBED, LOGITS}
    assert len(heads) == 1 and "effect_edges" not in found["reasons"]


def test_of_too_many_edges_each_is_tried_alone_and_a_sentence_says_so(monkeypatch):
    monkeypatch.setattr(edge_sizes, "MOST", 8)
    found = edge_sizes.measure(doubled())
    assert found["sizes"]["effect_edges"] == 0 and found["sizes"]["unweighted_edges"] == 9
    assert found["reasons"]["effect_edges"] == (
        "none together with others: those that make up for each other do not count"
    )
