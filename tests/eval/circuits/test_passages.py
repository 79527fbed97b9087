"""Edges of layers without matrices between their nodes: each target reads and writes by itself."""

import pytest
import torch
from support.planted_circuit import everything, planted
from support.small import small_model

from pellucid.eval.circuits import edge_sizes, passages
from pellucid.eval.circuits.bases import means, zeros
from pellucid.eval.circuits.circuit import Circuit, Placed
from pellucid.eval.circuits.gates import edges_of, loss_of, predicted, shared
from pellucid.eval.circuits.nodes import Nodes, nodes_of
from pellucid.eval.circuits.objective import margins_of
from pellucid.eval.circuits.prune_edges import prune
from pellucid.models import intervene, mix, record

IN, MLP, OUT = "blocks.0.mlp_in", "blocks.0.mlp", "blocks.0.mlp_out"
WITHOUT = ("moe", "q_sparse", "linear_experts", "peer", "codebook", "mxd", "monet", "memory")
"""Fillings that have no matrix from channels to units alone."""


def some_of(nodes: Nodes, share: float) -> torch.Tensor:
    return torch.rand(len(nodes), generator=torch.Generator().manual_seed(3)) < share


def ends(found: dict) -> set[tuple[str, str, str]]:
    """The edges of a result, by what they are reached through."""
    return {(edge["source"], edge["target"], edge["through"]) for edge in found["edges"]}


@pytest.mark.parametrize("mlp", WITHOUT)
def test_an_edge_that_is_left_out_is_its_target_alone_without_its_source(mlp, tokens):
    """By hand: the whole layer with the source at its mean, of which one target is looked at."""
    model = small_model(mlp)
    nodes = nodes_of(model)
    edges = edges_of(model, nodes, torch.ones(len(nodes), dtype=torch.bool))
    base = means(model, nodes, [tokens])
    through = [link.matrix for link in edges.links if link.name.startswith("blocks.0.mlp.")]
    assert through == ["read", "write", "past"][: 3 if mlp in ("mxd", "monet", "memory") else 2]
    with torch.no_grad(), record(model, [IN, MLP, OUT]) as trace:
        model(tokens)
    before = {site: acts.to_dense() for site, acts in trace.items()}
    wanted = (before[MLP] != 0).sum((0, 1)).argsort(descending=True)[:2].tolist()
    first = 0
    for link, targets, sources, _ in edges.split(torch.zeros(len(edges))):
        place, first = first, first + len(targets)
        if link.name.partition(".mlp.")[0] != "blocks.0" or link.matrix == "past":
            continue
        s, t = (5, wanted[0]) if link.matrix == "read" else (wanted[1], 7)
        share = torch.ones(len(edges), dtype=torch.float64)
        share[place + int(((targets == t) & (sources == s)).nonzero()[0, 0])] = 0.0
        with torch.no_grad(), shared(edges, share, base), record(model, [link.target]) as trace:
            model(tokens)
        found = trace[link.target].to_dense()
        one = mix(torch.zeros(1, dtype=torch.float64), base[link.source][[s]], [s])
        edited = intervene(model, {link.source: one})
        with torch.no_grad(), edited, record(model, [link.target]) as trace:
            model(tokens)
        alone = trace[link.target].to_dense()
        assert torch.allclose(found[..., t], alone[..., t], atol=1e-12)
        assert (found[..., t] - before[link.target][..., t]).abs().max() > 1e-6
        others = torch.arange(found.shape[-1]) != t
        assert torch.allclose(found[..., others], before[link.target][..., others], atol=1e-12)


@pytest.mark.parametrize("mlp", ["moe", "monet", "memory", "mxd"])
def test_predicted_effects_are_brute_force_to_first_order(mlp, asked, monkeypatch):
    """The rise of the loss with a thousandth of an edge left out; in turns of a few targets."""
    monkeypatch.setattr(passages, "AT_ONCE", 2**13)
    model = small_model(mlp)
    nodes = nodes_of(model)
    kept = some_of(nodes, 0.4)
    circuit = Circuit("t", kept, torch.zeros(len(nodes)), 0.0, 0.15)
    edges = edges_of(model, nodes, kept)
    base = means(model, nodes, [asked.tokens], [asked.last])
    placed = Placed(model, nodes, circuit, asked, base)
    guess = predicted(placed, edges)
    by_link = [part for *_, part in edges.split(guess)]
    starts = torch.tensor([0, *map(len, by_link)]).cumsum(0)
    for link, part, start in zip(edges.links, by_link, starts.tolist(), strict=False):
        if link.matrix not in ("read", "write", "past"):
            continue
        edge = start + int(part.abs().argmax())
        losses = []
        for step in (-1e-4, 1e-4):
            share = torch.ones(len(edges), dtype=torch.float64)
            share[edge] += step
            with torch.no_grad():
                losses.append(float(loss_of(placed, edges, share)))
        slope = (losses[0] - losses[1]) / 2e-4
        assert slope == pytest.approx(float(guess[edge]), rel=1e-4, abs=1e-9) != 0


def test_a_layer_of_one_expert_has_the_edges_of_the_dense_layer_that_it_is():
    seen = []
    for model, nodes, asked in (planted("moe", n_experts=1, k=1), planted()):
        base = means(model, nodes, [asked.tokens])
        seen.append(edge_sizes.measure(Placed(model, nodes, everything(nodes), asked, base)))
    found, dense = seen
    # Weights are those that neurons write with; what they read is known by its effects alone.
    assert found["sizes"]["static_edges"] == 2 and dense["sizes"]["unweighted_edges"] == 0
    assert found["sizes"]["unweighted_edges"] == 4 * 4  # every channel with every neuron
    assert found["sizes"]["effect_edges"] == dense["sizes"]["effect_edges"] == 2
    read, written = (f"{IN}:0", f"{MLP}:0"), (f"{MLP}:0", f"{OUT}:1")
    for edge in found["edges"][:2]:
        wanted = (None, "read") if edge["target"] == read[1] else (4.0, "write")
        assert (edge["weight"], edge["through"]) == wanted
    by_ends = [{(e["source"], e["target"]): e["effect"] for e in one["edges"]} for one in seen]
    for edge in (read, written):
        assert by_ends[0][edge] == pytest.approx(by_ends[1][edge], abs=1e-12)
        assert by_ends[0][edge] > 0.1


def pruned(model, nodes, asked) -> dict:
    """The fewest edges at about the loss of the whole model."""
    with torch.no_grad():
        whole = float(asked.loss(margins_of(model, nodes, asked)))
    base = means(model, nodes, [asked.tokens])
    circuit = everything(nodes, target=whole + 0.01)
    return prune(Placed(model, nodes, circuit, asked, base), 0, steps=5)


def test_pruning_a_layer_of_one_expert_leaves_its_circuit_and_the_number_is_complete():
    found = pruned(*planted("moe", n_experts=1, k=1))
    assert ends(found) == {(f"{IN}:0", f"{MLP}:0", "read"), (f"{MLP}:0", f"{OUT}:1", "write")}
    assert found["sizes"] == {"pruned_edges": 2} and found["reasons"] == {}


def test_what_chooses_an_expert_is_an_edge_although_no_weight_of_its_neuron_is():
    """Two neurons speak always, each in an expert of its own; channel 0 decides which one runs."""
    model, nodes, asked = planted("moe", n_experts=2, k=1)
    mlp = model.blocks[0].mlp
    mlp.w_in.zero_(), mlp.w_out.zero_()
    mlp.w_route[0, 0], mlp.w_route[1, 0] = 9.0, -9.0
    mlp.b_in[0] = mlp.b_in[2] = 1.0
    mlp.w_out[0, 1], mlp.w_out[2, 1] = 4.0, -4.0
    found = pruned(model, nodes, asked)
    read = {(f"{IN}:0", f"{MLP}:{unit}", "read") for unit in (0, 2)}
    written = {(f"{MLP}:{unit}", f"{OUT}:1", "write") for unit in (0, 2)}
    assert ends(found) <= read | written and ends(found) & read and ends(found) & written
    assert not found["censored"] and found["reasons"] == {}


def test_what_has_no_edges_at_all_is_told_and_the_number_is_not_complete(asked):
    model = small_model("moe", attention="headwise")
    nodes = nodes_of(model)
    kept = some_of(nodes, 0.1)
    circuit = Circuit("t", kept, torch.zeros(len(nodes)), 0.0, 9.0)
    found = edge_sizes.measure(Placed(model, nodes, circuit, asked, zeros(nodes)), tried=4)
    assert "has no matrix from channels to units" in found["reasons"]["static_edges"]
    # What neurons write are weights, what they read has effects; of the attention nothing is known.
    held = nodes.by_site(kept.double())
    at = lambda layer, place: int(held[f"blocks.{layer}.{place}"].sum())
    written = sum(at(i, "mlp") * at(i, "mlp_out") for i in (0, 1))
    assert found["sizes"]["static_edges"] == written > 0
    read = sum(at(i, "mlp") * at(i, "mlp_in") for i in (0, 1))
    assert found["sizes"]["unweighted_edges"] == read == len(found["edges"]) - written
    assert "Headwise" in found["reasons"]["unweighted_edges"]
    assert "Headwise" in found["reasons"]["effect_edges"]
    assert "MoE" not in found["reasons"]["effect_edges"]
    fewest = prune(Placed(model, nodes, circuit, asked, zeros(nodes)), 0, steps=1)
    assert "Headwise" in fewest["reasons"]["pruned_edges"]


def test_more_targets_than_can_be_computed_one_by_one_are_told(monkeypatch):
    model = small_model("moe")
    nodes = nodes_of(model)
    every = torch.ones(len(nodes), dtype=torch.bool)
    assert edges_of(model, nodes, every).unknown == ()
    monkeypatch.setattr("pellucid.eval.circuits.gates.MOST", 47)
    unknown = edges_of(model, nodes, every).unknown
    assert len(unknown) == 2 and "more than 47 targets" in unknown[0]
