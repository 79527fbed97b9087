"""Controls that search for circuits anew: what they ask for, and what they make of it."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.planted_parts import SAYS_1, planted, planted_case
from support.planted_parts import asked as drawn
from support.small import small_model

from pellucid.eval.circuits.bases import means
from pellucid.eval.circuits.battery import Repeats, twins_of
from pellucid.eval.circuits.battery.nonsense import exchanged, nonsense
from pellucid.eval.circuits.battery.overlap import jaccard, overlap
from pellucid.eval.circuits.battery.searched import compared
from pellucid.eval.circuits.battery.twins import as_sure, twins
from pellucid.eval.circuits.circuit import Circuit
from pellucid.eval.circuits.objective import margins_of
from pellucid.eval.circuits.sizes import bits

GROUPS = ("blocks.0.attention", "blocks.0.mlp")


class Finder:
    """Gives circuits of the sizes it is told, and remembers what it was asked."""

    def __init__(self, *sizes, loss=0.1):
        self.sizes, self.loss, self.asked = list(sizes), loss, []

    def __call__(self, model, nodes, asked, base, seed):
        self.asked.append((model, asked, base, seed))
        kept = torch.arange(len(nodes)) < self.sizes[(len(self.asked) - 1) % len(self.sizes)]
        return Circuit("found", kept, kept.double(), self.loss, 0.15)


def case_with(find, **repeats):
    model = planted(SAYS_1, SAYS_1)
    kept = ["blocks.0.attention:0", "blocks.0.attention:1", "blocks.0.mlp:0"]
    return planted_case(model, kept, repeats=Repeats(**repeats), find=find)


def circuit(size, loss=0.1, n=20):
    kept = torch.arange(n) < size
    return Circuit("c", kept, kept.double(), loss, 0.15)


def test_a_circuit_is_compared_with_the_smallest_that_stands_for_nothing():
    case = case_with(None)
    check = compared(case, "x", "nothing takes", [circuit(12), circuit(6), circuit(3, loss=0.5)])
    assert check.value == 3 / 6 and check.passes
    assert "nothing takes 6 of 20 nodes (the smallest of 3 searches, 1 of them" in check.says
    assert not compared(case, "x", "nothing takes", [circuit(5)]).passes
    none = compared(case, "x", "nothing takes", [circuit(20, loss=0.5)])
    assert none.value == 3 / 20 and none.passes and "no circuit reaches the target" in none.says
    # A circuit that misses its target is the whole model: nothing is larger.
    censored = replace(case, circuit=circuit(3, loss=0.5))
    check = compared(censored, "x", "nothing takes", [circuit(20, loss=0.5)])
    assert check.value == 1 and not check.passes


def test_each_unit_has_a_smallest_circuit_of_its_own():
    case = case_with(None)
    heads, neurons = ({g.name: g.size for g in case.nodes.groups}[n] for n in GROUPS)
    few, cheap = (torch.zeros(20, dtype=torch.bool) for _ in "ab")
    # One of many neurons takes more bits than all heads, which are as few as they are.
    few[heads : heads + 1], cheap[:heads] = True, True
    made = [Circuit("c", kept, kept.double(), 0.1, 0.15) for kept in (few, cheap)]
    least = compared(case, "x", "nothing takes", made).least
    assert least["nodes"] == 1 < heads
    assert least["bits"] == pytest.approx(math.log2(math.comb(heads, heads // 2)))
    assert least["bits"] < math.log2(neurons)
    whole = compared(case, "x", "nothing takes", [circuit(3, loss=0.5)]).least
    assert whole == {"nodes": 20, "bits": bits(case.nodes, torch.ones(20, dtype=torch.bool))}


def test_nothing_is_not_smaller_than_nothing():
    empty = replace(case_with(None), circuit=circuit(0))
    check = compared(empty, "x", "nothing takes", [circuit(0)])
    assert check.value == 1 and not check.passes and check.says.startswith("0 nodes do the task")
    check = compared(empty, "x", "nothing takes", [circuit(4), circuit(10)])
    assert check.value == 1 / 4 and check.passes
    assert compared(case_with(None), "x", "nothing takes", [circuit(0)]).value == 3
    one = compared(replace(empty, circuit=circuit(1)), "x", "nothing takes", [circuit(4)])
    assert one.says.startswith("1 node does the task; nothing takes 4 of 20 nodes")


def test_the_answers_of_one_pair_cannot_be_dealt_by_lot():
    find = Finder(12)
    case = case_with(find, permutations=2)
    one = replace(case, asked=drawn(1, 1), _bases={})
    check = nonsense(one)[-1]
    assert check.name == "permuted_labels" and check.value is None and check.passes is None
    assert check.reason == "half of the pairs are swapped, and there is 1: 2 or more are needed"
    assert len(find.asked) == 2
    assert nonsense(replace(case, asked=drawn(2, 1), _bases={}))[-1].value == 0.25


def test_nonsense_asks_for_tokens_that_the_model_does_not_give():
    find = Finder(12)
    case = case_with(find, permutations=2, mappings=2)
    checks = {check.name: check for check in nonsense(case)}
    assert {name: check.value for name, check in checks.items()} == {
        "nonsense_mapping": 0.25,
        "swapped_labels": 0.25,
        "permuted_labels": 0.25,
    }
    mappings, (_, swapped, _, _), lots = find.asked[:2], find.asked[2], find.asked[3:]
    for _, asked, base, _ in mappings:
        assert torch.equal(asked.tokens, case.asked.tokens)
        pair = asked.first.unique().item(), asked.second.unique().item()
        assert set(pair) == {3, 4} and base is case.base("mean", case.asked)
        assert margins_of(case.model, case.nodes, asked).abs().max() < 1e-9
    half = len(case.asked) // 2
    assert torch.equal(swapped.tokens, case.asked.tokens.roll(half, 0))
    assert swapped.wants_first.tolist() == case.asked.wants_first.tolist()
    for _, asked, _, _ in lots:
        ends = asked.tokens[:, -1]
        assert (ends[:half] == 2).sum() == half // 2 and (ends[:half] + ends[half:] == 3).all()


def test_exchanged_answers_turn_the_loss_around():
    case = case_with(None)
    chosen = torch.arange(len(case.asked) // 2) < 4
    asked = exchanged(case.asked, chosen)
    margins = margins_of(case.model, case.nodes, case.asked)
    found = asked.loss(margins_of(case.model, case.nodes, asked)).item()
    wants = case.asked.wants_first ^ chosen.repeat(2)
    right = torch.where(wants, margins, -margins)
    assert found == pytest.approx(-right.sigmoid().log().mean().item())


def test_there_is_no_nonsense_where_every_token_is_an_answer():
    case = case_with(Finder(5))
    case = replace(case, text=[case.asked.tokens[:, -1:]], _bases={})
    check = nonsense(case)[0]
    assert check.value is None and check.passes is None and "no nonsense to ask for" in check.reason


def test_twins_are_searched_at_their_own_means():
    find = Finder(12, 4)
    case = case_with(find, twins=2)
    checks = {check.name: check for check in twins(case)}
    assert {name: check.value for name, check in checks.items()} == {
        "random_twin": 0.75,
        "permuted_weights": 0.75,
    }
    models = [model for model, *_ in find.asked]
    assert len({id(model) for model in (case.model, *models)}) == 5
    for model, asked, base, _ in find.asked:
        own = means(model, case.nodes, case.text)["blocks.0.mlp"]
        assert asked is case.asked and torch.equal(base["blocks.0.mlp"], own)
    assert [seed for *_, seed in find.asked] == [0, 1, 0, 1]


def test_random_twins_are_as_sparse_as_the_run_and_new_for_each_number():
    model = small_model("dense").requires_grad_(False)
    model.blocks[0].mlp.w_in.mul_(torch.arange(48)[:, None] % 3 == 0)
    run = SimpleNamespace(model=model, config=SimpleNamespace(model=model.config, seed=4))
    make = twins_of(run)["random_twin"]
    first, again, other = make(0), make(0), make(1)
    zeros = model.blocks[0].mlp.w_in == 0
    assert torch.equal(first.blocks[0].mlp.w_in == 0, zeros) and 0.6 < zeros.double().mean() < 0.7
    for a, b, c in zip(*(m.parameters() for m in (first, again, other)), strict=True):
        assert torch.equal(a, b)
        assert a.ndim < 2 or not torch.equal(a, c)
    fresh = small_model("dense", seed=4)
    assert torch.equal(first.embedding.weight, fresh.embedding.weight)
    (mixed,) = (twins_of(run)["permuted_weights"](n).blocks[0].mlp.w_in for n in (1,))
    assert torch.equal(mixed.flatten().sort()[0], model.blocks[0].mlp.w_in.flatten().sort()[0])


def test_twins_are_made_as_sure_as_the_model():
    model, twin = small_model("dense"), small_model("dense", seed=1)
    with torch.no_grad():
        model.norm.weight.mul_(30.0)
    case = replace(case_with(None), model=model)
    spreads = lambda: [margins_of(m, case.nodes, case.asked).std().item() for m in (model, twin)]
    with torch.no_grad():
        before = spreads()
        assert as_sure(case, twin) is twin
        after = spreads()
    assert before[1] < before[0] / 5 and after[0] == before[0]
    assert after[1] == pytest.approx(after[0], rel=1e-9)


def test_overlap_is_the_mean_of_all_pairs_of_searches():
    find = Finder(6, 3)
    (check,) = overlap(case_with(find, searches=2))
    assert check.value == pytest.approx((3 / 6 + 3 / 3 + 3 / 6) / 3) and check.passes
    share = 4 / 20
    assert f"would share {share / (2 - share):.0%}" in check.says and "3 to 6 nodes" in check.says
    assert [seed for *_, seed in find.asked] == [1, 2]
    (check,) = overlap(case_with(Finder(9), searches=1))
    assert check.value == pytest.approx(1 / 3) and not check.passes
    (check,) = overlap(replace(case_with(Finder(20)), circuit=circuit(20)))
    assert check.value == 1 and check.passes is None
    (check,) = overlap(case_with(Finder(1), searches=0))
    assert check.value is None


def test_jaccard():
    a, b = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    assert jaccard(a, b) == pytest.approx(1 / 3) and jaccard(a, a) == 1
    assert jaccard(a & b & ~a, a & ~a) == 1 and math.isfinite(jaccard(a, ~a))
