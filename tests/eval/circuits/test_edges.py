"""Edges of the weights: which there are, what leaving them out does, and how many are counted."""

import pytest
import torch
from support.planted_circuit import everything, planted
from support.small import FILLINGS, VOCAB, filled, small_filling, small_model

from pellucid.eval.circuits import edge_sizes
from pellucid.eval.circuits.bases import means, resampled, zeros
from pellucid.eval.circuits.circuit import Circuit, Placed
from pellucid.eval.circuits.gates import edges_of, loss_of, predicted, shared
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import margins_of
from pellucid.eval.circuits.prune_edges import prune
from pellucid.eval.circuits.weights import links_of, replaced
from pellucid.models import Transformer, intervene, record, set_to


@pytest.mark.parametrize("name", FILLINGS)
def test_what_is_left_out_of_a_filling_is_all_that_it_reads(name, tokens):
    """Without the edges into a site nothing of their source reaches it: no path was forgotten."""
    model = Transformer(filled(name), vocab_size=VOCAB).double().eval()
    links, reasons, unknown = links_of(model)
    assert set(unknown) <= set(reasons)
    if not links:
        assert len(reasons) >= len(model.blocks), reasons
        return
    nodes = nodes_of(model)
    edges = edges_of(model, nodes, torch.ones(len(nodes), dtype=torch.bool))
    base = means(model, nodes, [tokens])
    for link in edges.links:
        units = model.sites()[link.source].n_units
        other = set_to(torch.linspace(-1, 1, units, dtype=torch.float64))
        seen = []
        for share in (1.0, 0.0):
            for edits in ({}, {link.source: other}):
                shares = torch.full((len(edges),), share, dtype=torch.float64)
                with (
                    torch.no_grad(),
                    shared(edges, shares, base),
                    intervene(model, edits),
                    record(model, [link.target]) as trace,
                ):
                    model(tokens)
                seen.append(trace[link.target].to_dense())
        whole, moved, without, still = seen
        assert not torch.allclose(whole, moved, atol=1e-4), link.name
        assert torch.allclose(without, still, atol=1e-12), link.name


def test_an_edge_that_is_left_out_carries_the_mean_of_its_source(tokens):
    model = small_model("dense")
    nodes = nodes_of(model)
    edges = edges_of(model, nodes, torch.ones(len(nodes), dtype=torch.bool))
    base = means(model, nodes, [tokens])
    sites = [edges.links[0].source, "blocks.0.attention.q", "blocks.0.mlp_out"]
    with torch.no_grad(), record(model, [*sites, "blocks.0.mlp"]) as trace:
        model(tokens)
    before = {site: acts.to_dense() for site, acts in trace.items()}
    first = [link.name for link in edges.links].index("blocks.0.mlp.w_out")
    query = 5
    at = sum(len(each) for each in edges.sources[:first])
    for edge, source, target in ((query, sites[0], sites[1]), (at, "blocks.0.mlp", sites[2])):
        share = torch.ones(len(edges), dtype=torch.float64)
        share[edge] = 0.0
        with torch.no_grad(), shared(edges, share, base), record(model, [target]) as trace:
            model(tokens)
        listed = edges.listed(nodes, torch.tensor([edge]), {})[0]
        s, t = (int(listed[end].rpartition(":")[2]) for end in ("source", "target"))
        moved = before[source][..., s] - base[source][s]
        found = before[target] - trace[target].to_dense()
        assert torch.allclose(found[..., t], listed["weight"] * moved, atol=1e-12)
        other = torch.arange(found.shape[-1]) != t
        assert found[..., t].abs().max() > 1e-4 and found[..., other].abs().max() < 1e-12


def test_weights_are_the_modules_own_again_even_after_an_error():
    model = small_model("topk")
    mlp, attention = model.blocks[0].mlp, model.blocks[0].attention
    w_enc = mlp.w_enc
    new = {(mlp, "w_enc"): torch.zeros_like(w_enc), (attention, "b_q"): torch.ones(16)}
    with replaced(new):
        assert attention.b_q is not None and not mlp.w_enc.any()
    with pytest.raises(ValueError, match="columns of w_enc"), replaced(new):
        model.blocks[0].mlp(torch.zeros(1, 1, 5, dtype=torch.float64))
    assert mlp.w_enc is w_enc and attention.b_q is None
    assert not any(name.endswith("b_q") for name in model.state_dict())


@pytest.mark.parametrize("mlp", ["dense", "topk", "bilinear"])
def test_predicted_effects_are_brute_force_to_first_order(mlp, asked):
    """The rise of the loss with a thousandth of an edge left out, one edge at a time."""
    model = small_model(mlp)
    nodes = nodes_of(model)
    circuit = everything(nodes)
    edges = edges_of(model, nodes, circuit.kept)
    base = means(model, nodes, [asked.tokens], [asked.last])
    placed = Placed(model, nodes, circuit, asked, base)
    guess = predicted(placed, edges)
    tried = guess.abs().argsort(descending=True)[:: len(edges) // 30]
    for edge in tried.tolist():
        ends = []
        for step in (-1e-4, 1e-4):
            share = torch.ones(len(edges), dtype=torch.float64)
            share[edge] += step
            with torch.no_grad():
                ends.append(float(loss_of(placed, edges, share)))
        assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(float(guess[edge]), rel=1e-4, abs=1e-9)


def test_all_edges_are_the_circuit_and_no_edge_is_every_node_at_what_means_give(asked):
    model = small_model("topk")
    nodes = nodes_of(model)
    circuit = everything(nodes)
    edges = edges_of(model, nodes, circuit.kept)
    base = resampled(model, nodes, asked.tokens, asked.partner, asked.last)
    placed = Placed(model, nodes, circuit, asked, base)
    ones = torch.ones(len(edges), dtype=torch.float64)
    with torch.no_grad():
        whole = asked.loss(margins_of(model, nodes, asked))
        assert loss_of(placed, edges, ones) == pytest.approx(float(whole), abs=1e-12)
        nothing = loss_of(placed, edges, 0 * ones)
    assert abs(float(nothing - whole)) > 1e-4


def test_static_edges_are_the_nonzero_weights_between_kept_nodes(tokens):
    model = small_model("dense", constraint=small_filling("constraint", "weight_topk"))
    with torch.no_grad():
        model.constraint.project(model, 1.0)
    nodes = nodes_of(model)
    kept = torch.rand(len(nodes), generator=torch.Generator().manual_seed(1)) < 0.4
    edges = edges_of(model, nodes, kept)
    held = {site: on.tolist() for site, on in nodes.by_site(kept.double()).items()}
    wanted = 0
    for layer in (0, 1):
        block, at = model.blocks[layer], f"blocks.{layer}."
        for source, target, weight in (
            ("attn_in", "attention.q", block.attention.w_q),
            ("attn_in", "attention.k", block.attention.w_k),
            ("attn_in", "attention.v", block.attention.w_v),
            ("attention.v", "attn_out", block.attention.w_o),
            ("mlp_in", "mlp", block.mlp.w_in),
            ("mlp", "mlp_out", block.mlp.w_out.T),
        ):
            for t, row in enumerate(weight.tolist()):
                for s, value in enumerate(row):
                    wanted += bool(value) and held[at + target][t] and held[at + source][s]
    assert len(edges) == wanted > 0
    assert (edges.weights() != 0).all()


def test_effect_edges_of_a_planted_model_are_those_of_its_circuit():
    model, nodes, asked = planted()
    base = means(model, nodes, [asked.tokens])
    found = edge_sizes.measure(Placed(model, nodes, everything(nodes), asked, base))
    assert found["sizes"]["static_edges"] == 4 and found["sizes"]["effect_edges"] == 2
    strongest = {(e["source"], e["target"], e["weight"]) for e in found["edges"][:2]}
    assert strongest == {
        ("blocks.0.mlp_in:0", "blocks.0.mlp:0", 4.0),
        ("blocks.0.mlp:0", "blocks.0.mlp_out:1", 4.0),
    }
    effects = [edge["effect"] for edge in found["edges"]]
    assert min(effects[:2]) > 0.1 and max(map(abs, effects[2:])) < 1e-4
    # Of two tokens each, the first is in channel 3 alone; the second makes both neurons speak once.
    assert found["sizes"]["dynamic_edges_per_token"] == pytest.approx((2 + 2) / 4)


def test_pruning_a_planted_model_leaves_its_circuit_alone():
    model, nodes, asked = planted()
    base = means(model, nodes, [asked.tokens])
    with torch.no_grad():
        whole = float(asked.loss(margins_of(model, nodes, asked)))
    circuit = everything(nodes, target=whole + 0.01)
    found = prune(Placed(model, nodes, circuit, asked, base), 0, steps=20)
    assert found["sizes"] == {"pruned_edges": 2} and not found["censored"]
    assert found["loss"] == pytest.approx(whole, abs=0.01)
    assert [(edge["source"], edge["target"]) for edge in found["edges"]] in (
        [("blocks.0.mlp_in:0", "blocks.0.mlp:0"), ("blocks.0.mlp:0", "blocks.0.mlp_out:1")],
        [("blocks.0.mlp:0", "blocks.0.mlp_out:1"), ("blocks.0.mlp_in:0", "blocks.0.mlp:0")],
    )


def test_edges_that_make_up_for_each_other_are_counted_when_all_of_them_go():
    """Each of two equal neurons is enough: alone neither edge matters, one of them must stay."""
    model, nodes, asked = planted()
    mlp = model.blocks[0].mlp
    mlp.w_in[2, 0], mlp.w_out[2, 1] = 4.0, 4.0
    model.head.weight[3, 1] = 400.0
    model.head.weight[3, 3] = -2.0
    found = edge_sizes.measure(Placed(model, nodes, everything(nodes), asked, zeros(nodes)))
    felt = [edge for edge in found["edges"] if abs(edge["effect"]) > 0.0015]
    assert found["sizes"]["static_edges"] == 6
    assert not felt and found["sizes"]["effect_edges"] == 2


def test_edges_that_were_not_tried_are_judged_to_first_order(asked):
    model = small_model("topk")
    nodes = nodes_of(model)
    circuit = everything(nodes, target=1e-4)
    base = means(model, nodes, [asked.tokens], [asked.last])
    found = edge_sizes.measure(Placed(model, nodes, circuit, asked, base), tried=5)
    assert sum(edge["effect"] is not None for edge in found["edges"]) == 5
    assert "5 edges were left out one by one" in found["reasons"]["effect_edges"]


def test_parts_that_choose_codes_have_edges_too(asked):
    """Which code speaks has no slope; what happens when an edge is left out is measured."""
    model = small_model("codebook")
    nodes = nodes_of(model, "parts")
    base = means(model, nodes, [asked.tokens], [asked.last])
    found = edge_sizes.measure(Placed(model, nodes, everything(nodes), asked, base), tried=4)
    effects = [edge["effect"] for edge in found["edges"] if edge["effect"] is not None]
    assert len(effects) == 4 and any(effects)
    assert all(torch.tensor(effects).isfinite())


def test_heads_and_neurons_have_no_static_edges_although_a_layer_shows_no_weights(asked):
    """What stands between them is the stream, whatever fills the layers."""
    model = small_model("moe")
    nodes = nodes_of(model, "parts")
    kept = torch.rand(len(nodes), generator=torch.Generator().manual_seed(0)) < 0.2
    circuit = Circuit("t", kept, torch.zeros(len(nodes)), 0.0, 0.15)
    found = edge_sizes.measure(Placed(model, nodes, circuit, asked, zeros(nodes)), tried=2)
    assert found["sizes"]["static_edges"] is None
    assert found["reasons"]["static_edges"] == (
        "between heads and neurons stands the stream: no single weight joins two nodes"
    )
    assert found["sizes"]["unweighted_edges"] == len(found["edges"]) > 0
