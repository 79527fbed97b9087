"""Prompts in groups of like length: the same margins, and less padding."""

from itertools import combinations

import pytest
import torch
from support.small import small_model

from pellucid.eval.circuits import lengths, objective, prune
from pellucid.eval.circuits.bases import means, resampled
from pellucid.eval.circuits.lengths import groups, margins_by_length, of_rows
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import Asked, margins_of
from pellucid.eval.circuits.settings import Settings

LAST = torch.tensor([4, 20, 5, 6, 19, 4])


@pytest.fixture
def asked(tokens) -> Asked:
    """Three pairs, of which one prompt of two is long."""
    rows = torch.cat([tokens, tokens.flip(1)])
    first = torch.tensor([3, 4, 6] * 2)
    return Asked(rows, LAST, first, first + 5, torch.arange(6) < 3)


def cost(parts: list[torch.Tensor], last: torch.Tensor, a_pass: float) -> float:
    return sum(a_pass + len(rows) * (int(last[rows].max()) + 1) for rows in parts)


@pytest.mark.parametrize("a_pass", [0.0, 3.0, 11.0, 1e4])
@pytest.mark.parametrize("last", [LAST, torch.tensor([7]), torch.tensor([3, 3, 3])])
def test_groups_take_the_fewest_tokens(last, a_pass):
    found = groups(last, a_pass)
    assert sorted(torch.cat(found).tolist()) == list(range(len(last)))
    order, n = last.argsort(stable=True), len(last)
    ways = [
        list(order.tensor_split(list(cuts)))
        for count in range(n)
        for cuts in combinations(range(1, n), count)
    ]
    assert cost(found, last, a_pass) == min(cost(parts, last, a_pass) for parts in ways)


@pytest.mark.parametrize("mlp", ["dense", "topk"])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("by_row", [False, True])
def test_margins_are_those_of_one_pass(mlp, held, by_row, asked, monkeypatch):
    monkeypatch.setitem(lengths.PASS, "cpu", 1)
    model = small_model(mlp)
    nodes = nodes_of(model)
    asked = asked.holding(model) if held else asked
    base = means(model, nodes, [asked.tokens])
    if by_row:
        base = resampled(model, nodes, asked.tokens, asked.partner, asked.last)
    share = torch.rand(2, len(nodes), generator=torch.Generator().manual_seed(0)).double()
    share.requires_grad_()
    assert len(groups(LAST, 0.5)) > 2
    found, one = (
        each(model, nodes, asked, share, base) for each in (margins_by_length, margins_of)
    )
    assert torch.allclose(found, one, rtol=1e-10, atol=1e-12)
    weights = torch.arange(12.0).double()
    slopes = [torch.autograd.grad((each * weights).sum(), share)[0] for each in (found, one)]
    assert torch.allclose(*slopes, rtol=1e-8, atol=1e-12) and slopes[0].abs().sum() > 0


def test_rows_end_with_the_longest_of_them(asked):
    some, base = of_rows(asked, {"a": 0.0, "b": torch.randn(6, 24, 3)}, torch.tensor([0, 2]))
    assert some.tokens.tolist() == asked.tokens[[0, 2], :6].tolist()
    assert base["a"] == 0.0 and base["b"].shape == (2, 6, 3)


def test_training_of_masks_reads_little_padding(asked, monkeypatch):
    monkeypatch.setitem(lengths.PASS, "cpu", 1)
    model, read = small_model("topk"), []
    nodes = nodes_of(model)
    base = means(model, nodes, [asked.tokens])
    logits_of = model.logits_of
    mixed = lambda rows, copies: read.append(copies * len(rows.of)) or logits_of(rows, copies)
    monkeypatch.setattr(model, "logits_of", mixed)
    prune.trained_masks(model, nodes, asked, base, Settings(steps=1), 0)
    least = 2 * int((LAST + 1).sum())
    assert least <= sum(read) <= 1.05 * least < 2 * asked.tokens.numel() / 2


@pytest.mark.parametrize("by_row", [False, True])
def test_a_pass_makes_its_edits_once(by_row, asked, monkeypatch):
    model, made, edits_of = small_model("topk"), [], objective.edits_of
    nodes = nodes_of(model)
    base = means(model, nodes, [asked.tokens])
    if by_row:
        base = resampled(model, nodes, asked.tokens, asked.partner, asked.last)
    monkeypatch.setattr(objective, "edits_of", lambda *a: made.append(a) or edits_of(*a))
    margins_of(model, nodes, asked, torch.ones(2, len(nodes)).double(), base)
    assert len(made) == 1
