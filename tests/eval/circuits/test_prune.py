"""Masks, their gradients, readouts, and cutting a ranking to size."""

import math
from dataclasses import replace

import pytest
import torch
from support.asked_programs import asked_of, means_of
from support.programs import PROGRAMS
from support.small import small_model

from pellucid.errors import UserError
from pellucid.eval.circuits.bases import resampled, zeros
from pellucid.eval.circuits.discretise import first_of, ranking, smallest
from pellucid.eval.circuits.measured import (
    MOST,
    effects,
    estimated_effects,
    fitted,
    losses_of,
)
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import Asked, Readout, margins_of
from pellucid.eval.circuits.prune import Step, rows_of, trained_masks
from pellucid.eval.circuits.settings import Settings, settings_of


@pytest.fixture
def asked(tokens) -> Asked:
    """Two pairs of a small model, of which the second is of other lengths."""
    rows = torch.cat([tokens, tokens[:1].flip(1)])
    last, first = torch.tensor([23, 20, 23, 22]), torch.tensor([3, 4, 3, 4])
    return Asked(rows, last, first, first + 5, torch.tensor([True, True, False, False]))


def test_a_step_has_the_slope_of_a_sigmoid():
    x = torch.tensor([-0.5, 0.0, 0.2], dtype=torch.float64, requires_grad=True)
    kept = Step.apply(x, 0.3)
    assert kept.tolist() == [0.0, 0.0, 1.0]
    (found,) = torch.autograd.grad((kept * torch.tensor([1.0, 2.0, 3.0])).sum(), x)
    soft = torch.sigmoid(x / 0.3)
    (wanted,) = torch.autograd.grad((soft * torch.tensor([1.0, 2.0, 3.0])).sum(), x)
    assert torch.allclose(found, wanted, atol=1e-12)


def test_masks_that_share_a_pass_are_those_trained_alone(asked):
    model = small_model("topk")
    nodes, settings = nodes_of(model), Settings(steps=10, lr=0.1, penalties=(1e-5, 1e-1), pairs=2)
    both = trained_masks(model, nodes, asked, zeros(nodes), settings, seed=4)
    alone = replace(settings, penalties=(1e-5,))
    single = trained_masks(model, nodes, asked, zeros(nodes), alone, seed=4)
    assert torch.allclose(both[0], single[0], atol=1e-9)
    assert both.abs().max() <= 1 and (both[1] > 0).sum() < (both[0] > 0).sum()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_rows_of_pairs_bring_their_bases(tokens, asked):
    model = small_model("dense")
    nodes = nodes_of(model)
    base = resampled(model, nodes, asked.tokens, torch.tensor([2, 3, 0, 1]), asked.last)
    some, held = rows_of(asked, base, torch.tensor([1]))
    width = int(asked.last[[1, 3]].max()) + 1  # no longer than the longest of them
    assert width < asked.tokens.shape[1]
    assert torch.equal(some.tokens, asked.tokens[[1, 3], :width])
    assert torch.equal(held["blocks.0.mlp"], base["blocks.0.mlp"][[1, 3], :width])
    share = torch.zeros(len(nodes), dtype=torch.float64)
    whole = margins_of(model, nodes, asked, share, base)
    assert torch.allclose(margins_of(model, nodes, some, share, held), whole[[1, 3]], atol=1e-9)


def test_a_readout_takes_off_what_is_constant_and_never_turns_the_answer(asked):
    right = torch.tensor([1.0, 0.5, -1.0, -0.7], dtype=torch.float64)
    found = fitted(asked, 0.4 * right + 3)
    assert found.shift / found.scale == pytest.approx(-3.05, abs=0.15)
    assert MOST / 2 < found.scale <= MOST
    turned = fitted(asked, -right)
    assert turned.scale >= 0 and asked.loss(-right, turned).item() >= math.log(2) - 1e-3


@pytest.mark.parametrize("mlp", ["dense", "topk"])
def test_effects_are_those_of_ablating_one_node(mlp, asked):
    model = small_model(mlp)
    nodes, readout = nodes_of(model), Readout(1.5, 0.2)
    kept = torch.arange(len(nodes)) % 3 > 0
    base = resampled(model, nodes, asked.tokens, asked.partner, asked.last)
    numbers, found = effects(model, nodes, asked, kept, base, readout)
    assert torch.equal(numbers, kept.nonzero()[:, 0])

    def loss(share: torch.Tensor) -> float:
        with torch.no_grad():
            return asked.loss(margins_of(model, nodes, asked, share, base), readout).item()

    whole = kept.double()
    for number in numbers[::17].tolist():
        without = whole.clone()
        without[number] = 0
        place = numbers.tolist().index(number)
        assert found[place].item() == pytest.approx(loss(without) - loss(whole), abs=1e-9)
        without[number] = 1 - 1e-6
        slope = (loss(without) - loss(whole)) / 1e-6
        guess = estimated_effects(model, nodes, asked, kept, base, readout)[1]
        assert guess[place].item() == pytest.approx(slope, abs=1e-5)


def test_the_shortest_ranking_is_cut_at_the_last_node_that_is_needed():
    program = PROGRAMS["induction"]()
    nodes = nodes_of(program.model, "parts")
    true = [nodes.number(f"{site}:{unit}") for site, unit in program.nodes]
    ahead, behind = torch.zeros(2, len(nodes), dtype=torch.float64)
    ahead[true], behind[true] = 1.0, torch.tensor([1.0, -1.0], dtype=torch.float64)
    about = (program.model, nodes, asked_of(program), means_of(program, nodes))
    copy, cut = smallest(*about, torch.stack([behind, ahead]), target=0.05)
    assert copy == 1 and cut.kept.nonzero()[:, 0].tolist() == sorted(true)
    _, cut = smallest(*about, behind[None], target=0.05)
    assert cut.size == len(nodes)
    (loss,), (readout,) = losses_of(*about[:3], cut.kept[None], about[3])
    assert (cut.loss, cut.readout) == (loss.item(), readout)


def test_of_equal_scores_the_earlier_node_is_first():
    order = ranking(torch.tensor([[0.5, 1.0, 0.5, 1.0]]))
    assert order.tolist() == [[1, 3, 0, 2]]
    assert first_of(order, 3).tolist() == [[True, True, False, True]]


@pytest.mark.parametrize("target", [0.0, -1.0, 0.7, math.nan, math.inf])
def test_a_target_is_below_chance(target):
    with pytest.raises(UserError, match=r"target = .* ln 2 = 0.693, which is chance"):
        settings_of("quick", target)
    with pytest.raises(
        UserError, match="'slow' is unknown: quick and paper and headline are accepted"
    ):
        settings_of("slow")
