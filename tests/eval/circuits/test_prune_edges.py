"""Edge-level pruning finds the edges of compiled programs, and no others."""

import pytest
import torch
from support.asking import asked_of
from support.marks import slow_but
from support.programs import PROGRAMS
from support.programs_edges import part_of
from support.small import small_model

from pellucid.eval.circuits.bases import means, zeros
from pellucid.eval.circuits.circuit import Circuit, Placed
from pellucid.eval.circuits.eliminate import eliminate
from pellucid.eval.circuits.gates import edges_of, loss_of
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import Asked, Readout, margins_of
from pellucid.eval.circuits.path_sets import Paths
from pellucid.eval.circuits.prune_edges import Step, prune


@pytest.mark.parametrize("name", slow_but(["depth", "quote", "induction"], PROGRAMS))
def test_edges_that_are_kept_belong_to_the_program_and_do_its_task(name):
    program = PROGRAMS[name]()
    model, asked = program.model, asked_of(program, pairs=8)
    nodes = nodes_of(model)
    ones = torch.ones(len(nodes))
    circuit = Circuit(name, ones.bool(), ones, 0.0, 0.15, Readout(10.0))
    base = means(model, nodes, [asked.tokens])
    placed = Placed(model, nodes, circuit, asked, base)
    found = prune(placed, 0, steps=10)
    edges = edges_of(model, nodes, circuit.kept)
    assert 0 < found["sizes"]["pruned_edges"] == len(found["edges"]) < 0.7 * len(edges)
    assert {part_of(program, edge) for edge in found["edges"]} <= program.nodes
    assert found["loss"] <= 0.15 and not found["censored"]
    # The loss is that of the edges that are listed.
    every = edges.listed(nodes, torch.arange(len(edges)), {})
    share = torch.tensor([float(edge in found["edges"]) for edge in every]).double()
    with torch.no_grad():
        loss = loss_of(placed, edges, share)
    assert float(loss) == pytest.approx(found["loss"], abs=1e-12)
    # Not one of them can be spared.
    for edge in share.nonzero()[:, 0]:
        less = share.clone()
        less[edge] = 0.0
        with torch.no_grad():
            assert float(loss_of(placed, edges, less)) > 0.15


def random_task(mlp="topk", **changes) -> tuple[torch.nn.Module, Asked]:
    tokens = torch.randint(0, 61, (4, 8), generator=torch.Generator().manual_seed(0))
    first, second = torch.tensor([3, 4, 3, 4]), torch.tensor([5, 6, 5, 6])
    asked = Asked(tokens, torch.full((4,), 7), first, second, torch.arange(4) < 2)
    return small_model(mlp, **changes), asked


def test_the_same_seed_gives_the_same_edges_and_what_misses_the_target_is_censored():
    model, asked = random_task()
    nodes = nodes_of(model)
    kept = torch.rand(len(nodes), generator=torch.Generator().manual_seed(2)) < 0.07
    base = means(model, nodes, [asked.tokens])
    with torch.no_grad():
        loss = float(asked.loss(margins_of(model, nodes, asked, kept.double(), base)))
    reachable = Circuit("t", kept, torch.zeros(len(nodes)), loss, loss + 0.003)
    a, b = (prune(Placed(model, nodes, reachable, asked, base), 7, steps=5) for _ in range(2))
    assert a == b and a["loss"] <= loss + 0.003
    missed = Circuit("t", kept, torch.zeros(len(nodes)), loss, loss - 0.5)
    found = prune(Placed(model, nodes, missed, asked, base), 7, steps=2)
    assert found["censored"] and found["loss"] == pytest.approx(loss)
    assert found["sizes"]["pruned_edges"] == len(edges_of(model, nodes, kept))


def test_edges_of_parts_that_are_kept_are_the_programs():
    """Among heads and neurons of the program and decoys."""
    program = PROGRAMS["induction"]()
    model, asked = program.model, asked_of(program, pairs=8)
    nodes = nodes_of(model, "parts")
    kept = torch.tensor(["mlp:" not in name or "mlp:0" in name for name in nodes.names()])
    circuit = Circuit("induction", kept, kept.double(), 0.0, 0.15, Readout(10.0))
    placed = Placed(model, nodes, circuit, asked, means(model, nodes, [asked.tokens]))
    found = prune(placed, 0)
    ends = {(node_of(edge["source"]), node_of(edge["target"])) for edge in found["edges"]}
    assert ends == program.edges and found["loss"] <= 0.15 and not found["censored"]
    assert found["sizes"]["pruned_edges"] == len(found["edges"]) and not found["reasons"]
    # The second head finds what the first one wrote by its keys alone.
    reads = {edge["through"] for edge in found["edges"] if edge["source"] == "blocks.0.attention:0"}
    assert reads == {"k"}
    # The loss is that of the listed edges, and not one of them can be spared.
    paths = Paths.of(placed, 0)
    names = [tuple(edge[x] for x in ("source", "target", "through")) for edge in found["edges"]]
    gone = torch.tensor([i for i, edge in enumerate(paths.edges) if edge.name not in names])
    assert paths.loss(gone) == pytest.approx(found["loss"], abs=1e-9)
    for i, edge in enumerate(paths.edges):
        if edge.name in names:
            assert paths.loss(torch.cat([gone, torch.tensor([i])])) > 0.15


def node_of(name: str) -> tuple[str, int]:
    site, _, unit = name.rpartition(":")
    return (site, int(unit)) if site else (name, 0)


def test_edges_of_too_many_parts_or_of_strange_ones_are_not_pruned_and_the_reason_is_given():
    model, asked = random_task()
    nodes = nodes_of(model, "parts")
    every = Circuit("t", torch.ones(len(nodes)).bool(), torch.zeros(len(nodes)), 0.7, 0.15)
    found = prune(Placed(model, nodes, every, asked, zeros(nodes)), 0)
    assert found["sizes"] == {"pruned_edges": None} and found["edges"] == []
    wanted = "3729 edges between heads and neurons; at most 2048 are pruned"
    assert found["reasons"]["pruned_edges"] == wanted
    model, asked = random_task(mlp="monet")
    nodes = nodes_of(model, "parts")
    every = Circuit("t", torch.ones(len(nodes)).bool(), torch.zeros(len(nodes)), 0.7, 0.15)
    found = prune(Placed(model, nodes, every, asked, zeros(nodes)), 0)
    assert "units of MonetMLP write in no direction" in found["reasons"]["pruned_edges"]


def test_a_part_without_edges_is_told_beside_the_number_of_the_others():
    model, asked = random_task(attention="codebook")
    nodes = nodes_of(model)
    kept = torch.rand(len(nodes), generator=torch.Generator().manual_seed(2)) < 0.07
    circuit = Circuit("t", kept, torch.zeros(len(nodes)), 0.7, 9.0)
    found = prune(Placed(model, nodes, circuit, asked, zeros(nodes)), 0, steps=1)
    assert found["sizes"]["pruned_edges"] == 0
    assert "its codes are chosen by distance" in found["reasons"]["pruned_edges"]


def test_a_step_has_the_gradient_of_a_sigmoid():
    mask = torch.tensor([-0.3, 0.0, 0.5], dtype=torch.float64, requires_grad=True)
    Step.apply(mask).backward(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    soft = (mask.detach() / 0.2).sigmoid()
    assert Step.apply(mask).tolist() == [0, 0, 1]
    assert torch.allclose(mask.grad, torch.tensor([1.0, 2.0, 3.0]) * soft * (1 - soft) / 0.2)


def test_elimination_leaves_what_is_needed_and_stops_after_its_tries():
    asked: list[int] = []

    def fits(gone: torch.Tensor) -> bool:
        asked.append(len(gone))
        return not {3, 8} & set(gone.tolist())

    gone = eliminate(torch.arange(10), fits, 100)
    assert sorted(gone.tolist()) == [0, 1, 2, 4, 5, 6, 7, 9]
    assert eliminate(torch.arange(10), fits, 0).tolist() == []
    asked.clear()
    eliminate(torch.arange(10), fits, 3)
    assert asked == [10, 5, 2]
