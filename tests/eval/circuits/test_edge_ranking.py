"""How well the edges that are found and ranked tell a compiled program's edges from its decoys'."""

import pytest
import torch
from support.asking import asked_of, auroc
from support.programs import PROGRAMS
from support.programs_edges import part_of

from pellucid.eval.circuits import edge_sizes
from pellucid.eval.circuits.bases import means
from pellucid.eval.circuits.circuit import Circuit, Placed
from pellucid.eval.circuits.gates import Edges, edges_of, loss_of
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import Readout
from pellucid.eval.circuits.prune_edges import prune


def alone(placed: Placed, edges: Edges) -> torch.Tensor:
    """The loss without each edge alone, all others being there."""
    found = []
    for edge in range(len(edges)):
        share = torch.ones(len(edges), dtype=torch.float64)
        share[edge] = 0.0
        with torch.no_grad():
            found.append(float(loss_of(placed, edges, share)))
    return torch.tensor(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_needed_edges_rank_before_decoys(name):
    """Edges that pruning keeps first, then as they are ranked: both as written to a circuit's file.

    An edge is needed if the target is missed without it alone, on the prompts that were searched or
    on others: 64 pairs, of which the search saw none and takes no mean. Others of the program, of
    which one may stand in for another or which few prompts ask for, are on neither side.
    """
    program = PROGRAMS[name]()
    model, asked = program.model, asked_of(program, pairs=24)
    nodes = nodes_of(model)
    ones = torch.ones(len(nodes))
    circuit = Circuit(name, ones.bool(), ones, 0.0, 0.15, Readout(10.0))
    on = lambda asked: Placed(model, nodes, circuit, asked, means(model, nodes, [asked.tokens]))
    edges = edges_of(model, nodes, circuit.kept)
    every = edges.listed(nodes, torch.arange(len(edges)), {})
    ends = lambda edge: (edge["source"], edge["target"], edge["through"])
    found = [ends(edge) for edge in prune(on(asked), 0, steps=10)["edges"]]
    ranked = [ends(edge) for edge in edge_sizes.measure(on(asked))["edges"]]
    first = set(found)
    order = found + [edge for edge in ranked if edge not in first]
    scores = -torch.tensor([order.index(ends(edge)) for edge in every]).double()
    own = torch.tensor([part_of(program, edge) in program.nodes for edge in every])
    for prompts in (asked, asked_of(program, pairs=64, seed=1)):
        needed = alone(on(prompts), edges) > circuit.target
        assert needed.sum() >= 5 and not (needed & ~own).any()
        assert auroc(scores[needed], scores[~own]) >= 0.95
