"""Nodes, what they are held at, and the loss of a task."""

import math
from dataclasses import replace

import pytest
import torch
from support.programs import PROGRAMS
from support.small import VOCAB, filled, small_model

from pellucid.errors import UserError
from pellucid.eval.circuits.bases import means, resampled, zeros
from pellucid.eval.circuits.nodes import nodes_of, whole_heads
from pellucid.eval.circuits.objective import Asked, Readout, edits_of, margins_of
from pellucid.models import Transformer, intervene, mix, record


@pytest.fixture
def asked(tokens) -> Asked:
    return Asked(
        tokens,
        torch.tensor([23, 20, 23]),
        torch.tensor([3, 3, 4]),
        torch.tensor([5, -1, 6]),
        torch.tensor([True, True, False]),
    )


def test_nodes_of_channels_are_named_in_the_order_of_the_pass():
    nodes = nodes_of(small_model("topk"))
    first = [group.name for group in nodes.groups if group.layer == 0]
    assert first == [
        f"blocks.0.{name}"
        for name in ("attn_in", "attention.qk", "attention.v", "attn_out")
        + ("mlp_in", "mlp", "mlp_out")
    ]
    name = "blocks.1.attention.qk:3"
    number = nodes.number(name)
    assert nodes.names([number]) == [name]
    # A query channel is of use only with the key channel that it is multiplied with.
    units = nodes.by_site(torch.eye(len(nodes))[number])
    held = {site: value.nonzero().flatten().tolist() for site, value in units.items()}
    assert {site: where for site, where in held.items() if where} == {
        "blocks.1.attention.q": [3],
        "blocks.1.attention.k": [3],
    }
    with pytest.raises(UserError, match="is not a node"):
        nodes.number("blocks.9.mlp:0")


@pytest.mark.parametrize("program", ["histogram", "induction"])
def test_nodes_of_parts_are_the_nodes_of_programs(program):
    made = PROGRAMS[program]()
    assert set(nodes_of(made.model, "parts").names()) == {f"{s}:{u}" for s, u in made.candidates()}


@pytest.mark.parametrize("attention", ["softmax", "bilinear"])
def test_whole_heads_left_out_write_what_they_write_elsewhere(attention, tokens):
    """Every second head of a layer, at what it does in the other rows."""
    model = small_model("dense", attention=attention)
    nodes = whole_heads(model, nodes_of(model, "parts"))
    assert nodes.names() == nodes_of(model, "parts").names()
    last = torch.full((len(tokens),), tokens.shape[1] - 1)
    base = resampled(model, nodes, tokens, torch.arange(len(tokens)).roll(1), last)
    site, out = "blocks.0.attention", {}
    share = torch.ones(len(nodes), dtype=torch.float64)
    left = [i for i, name in enumerate(nodes.names()) if name.startswith(site)][::2]
    for name, kept in (("whole", share), ("left", share.index_fill(0, torch.tensor(left), 0.0))):
        with intervene(model, edits_of(nodes, kept, base)), record(model, [site]) as trace:
            model(tokens)
        out[name] = trace[site].to_dense()
    for head in range(out["whole"].shape[1]):
        moved = out["whole"].roll(1, 0) if head % 2 == 0 else out["whole"]
        assert torch.allclose(out["left"][:, head], moved[:, head], atol=1e-12)


@pytest.mark.parametrize("mlp", ["dense", "topk"])
def test_a_share_of_one_is_the_model_and_none_is_the_base(mlp, tokens, asked):
    model = small_model(mlp)
    nodes = nodes_of(model)
    with torch.no_grad():
        full = margins_of(model, nodes, asked)
        shares = torch.stack([torch.ones(len(nodes)), torch.zeros(len(nodes))])
        base = resampled(model, nodes, tokens, torch.tensor([1, 2, 0]), asked.last)
        whole, none = margins_of(model, nodes, asked, shares, base).view(2, -1)
    assert torch.allclose(whole, full, atol=1e-9) and not torch.allclose(none, full, atol=1e-3)
    with (
        torch.no_grad(),
        intervene(model, edits_of(nodes, torch.zeros(len(nodes)), base)),
        record(model, ["blocks.1.mlp"]) as trace,
    ):
        model(tokens)
    assert torch.equal(trace["blocks.1.mlp"].to_dense(), base["blocks.1.mlp"])


def test_margins_are_of_the_answers_at_the_ends_of_the_prompts(tokens, asked):
    model = small_model("dense")
    with torch.no_grad():
        logits = model(tokens).logits[torch.arange(3), torch.tensor([23, 20, 23])]
        found = margins_of(model, nodes_of(model), asked)
    p = logits.softmax(-1)
    assert found[0].item() == pytest.approx((logits[0, 3] - logits[0, 5]).item())
    assert found[1].item() == pytest.approx(math.log(p[1, 3] / (1 - p[1, 3])))
    seen = 2.0 * found + 0.5
    wanted = -(seen[:2].sigmoid().log().sum() + (-seen[2]).sigmoid().log()) / 3
    assert asked.loss(found, Readout(2.0, 0.5)).item() == pytest.approx(wanted.item())


def test_means_are_over_tokens_that_count(tokens):
    model = small_model("topk")
    nodes = nodes_of(model)
    last = torch.tensor([5, 23, 11])
    found = means(model, nodes, [tokens[:2], tokens[2:]], [last[:2], last[2:]])
    with torch.no_grad(), record(model, ["blocks.0.mlp"]) as trace:
        model(tokens)
    acts = trace["blocks.0.mlp"].to_dense()
    wanted = torch.cat([acts[row, : end + 1] for row, end in enumerate(last)]).mean(0)
    assert torch.allclose(found["blocks.0.mlp"], wanted, atol=1e-12)
    assert zeros(nodes).keys() == found.keys()


def test_resampled_values_are_laid_by_the_ends_of_the_rows(tokens):
    model = small_model("topk")
    nodes, last = nodes_of(model), torch.tensor([23, 20, 5])
    source = torch.tensor([2, 0, 1])
    with torch.no_grad(), record(model, nodes.sites) as trace:
        model(tokens)
    for site, base in resampled(model, nodes, tokens, source, last).items():
        acts = trace[site].to_dense()
        for row, other in enumerate(source.tolist()):
            for column in range(24):
                wanted = min(max(column - last[row] + last[other], 0), last[other])
                assert torch.equal(base[row, column], acts[other, wanted]), (site, row, column)


def test_what_stands_behind_the_prompts_changes_nothing(tokens, asked):
    """Neither bases up to the ends of the rows nor margins, whichever row is the longer."""
    model = small_model("topk")
    nodes = nodes_of(model)
    asked = replace(asked, last=torch.tensor([17, 6, 12]))
    behind = torch.arange(24) > asked.last[:, None]
    other = replace(asked, tokens=torch.where(behind, (tokens + 7) % 61, tokens))
    share = (torch.arange(len(nodes)) % 2).to(torch.get_default_dtype())
    for source in (torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1])):
        found = []
        for each in (asked, other):
            with torch.no_grad():
                base = resampled(model, nodes, each.tokens, source, each.last)
                found.append((base, margins_of(model, nodes, each, share, base)))
        (one, shown), (two, again) = found
        assert torch.equal(shown, again)
        assert all(torch.equal(one[site][~behind], two[site][~behind]) for site in one)


def test_a_sense_is_one_node_and_writes_nothing_where_it_is_left_out(tokens, asked):
    model = Transformer(filled("head=backpack"), vocab_size=VOCAB).double().eval()
    nodes = nodes_of(model)
    (group,) = (group for group in nodes.groups if group.layer == -1)
    assert group.name == "head.strengths" and group.size == 4
    assert set(group.places) == {"head.strengths", "head.senses"}
    share = torch.ones(len(nodes), dtype=torch.float64)
    share[nodes.number("head.strengths:2")] = 0.0
    without = margins_of(model, nodes, asked, share, means(model, nodes, [tokens]))
    silent = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    with torch.no_grad(), intervene(model, {"head.senses": mix(silent, 0.0)}):
        wanted = margins_of(model, nodes, asked)
    assert torch.allclose(without, wanted, atol=1e-12)
    assert not torch.allclose(wanted, margins_of(model, nodes, asked), atol=1e-6)
