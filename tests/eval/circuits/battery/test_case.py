"""What controls are given, and what they hand back."""

import json

import pytest
import torch
from support.circuit_cases import asked_of, case_of, decoys
from support.programs import PROGRAMS

from pellucid.errors import UserError
from pellucid.eval.circuits.bases import means
from pellucid.eval.circuits.battery import Check, Repeats, repeats_of
from pellucid.eval.circuits.battery.case import others
from pellucid.eval.circuits.battery.check import missing, of_curve
from pellucid.eval.circuits.objective import Readout, margins_of


@pytest.fixture
def case():
    return case_of(PROGRAMS["induction"]())


def test_losses_are_of_unseen_pairs_at_the_readout_of_the_others(case):
    base = means(case.model, case.nodes, case.text)
    wrong = decoys(case.nodes, case.circuit.kept)
    for kept in (case.circuit.kept, wrong):
        share = kept.double()
        margins = margins_of(case.model, case.nodes, case.unseen, share, base)
        seen = margins_of(case.model, case.nodes, case.asked, share, base)
        scale = torch.where(case.asked.wants_first, seen, -seen).mean()
        if scale > 0.1:
            # The answers are 1 apart from 0 up to little: the readout that leaves ½/25 of doubt.
            scale = torch.log(torch.tensor(24.5 / 0.5)) / scale
        wanted = case.unseen.loss(margins, Readout(float(scale), 0.0))
        assert case.losses(kept[None]).item() == pytest.approx(wanted.item(), abs=2e-3)


def test_draws_of_one_control_do_not_move_those_of_another(case):
    draw = lambda name: torch.rand(3, generator=case.rng(name))
    assert torch.equal(draw("halves"), draw("halves"))
    assert not torch.equal(draw("halves"), draw("relax"))


def test_a_base_is_made_once_for_each_set_of_prompts(case):
    assert case.base("mean", case.asked) is case.base("mean", case.unseen)
    first, second = (case.base("resample", each) for each in (case.asked, case.unseen))
    assert first is case.base("resample", case.asked) and first is not second
    assert all(value == 0 for value in case.base("zero", case.asked).values())


def test_resampled_rows_take_another_that_is_as_long():
    last = torch.tensor([3, 9, 5, 5, 9, 2])
    for seed in range(20):
        source = others(last, torch.Generator().manual_seed(seed))
        assert (source != torch.arange(6)).all() and (last[source] >= last).all()
    lonely = others(torch.tensor([3, 9, 5]), torch.Generator().manual_seed(0))
    assert lonely[1] == 2 and lonely[2] == 1
    with pytest.raises(ValueError, match="two prompts at least; got 1"):
        others(torch.tensor([3]), torch.Generator())


def test_pairs_of_programs_have_the_answers_of_the_program():
    program = PROGRAMS["depth"]()
    asked = asked_of(program, 10, 0)
    right = torch.where(asked.wants_first, asked.first, asked.second)
    assert right.tolist() == [program.answer(row) for row in asked.tokens.tolist()]
    assert (asked.first != asked.second).all()


def test_a_check_without_value_or_verdict_says_why():
    assert missing("x", "nats", "there is none").to_json()["reason"] == "there is none"
    curve = of_curve("x", (0.1, 0.5, 1.0), (0.2, 0.4, 0.3), 0.35, "its nodes")
    assert curve.value == 0.4 and curve.passes is False and curve.most == 0.35
    assert "0.400 nats at most, with a share of 0.5 of its nodes, and 0.200 at least" in curve.says
    assert json.loads(json.dumps(curve.to_json()))["points"] == [[0.1, 0.2], [0.5, 0.4], [1, 0.3]]
    with pytest.raises(ValueError, match="a reason is needed"):
        Check("x", 1.0, "nats", "One.", None)
    with pytest.raises(ValueError, match="the value is inf"):
        Check("x", float("inf"), "ratio", "Much.", True)


def test_numbers_of_repeats():
    quick, paper = repeats_of("quick"), repeats_of("paper")
    assert quick.halves == paper.halves == 16 and paper.searches > quick.searches
    with pytest.raises(UserError, match="profile 'fast' is unknown: quick and paper"):
        repeats_of("fast")
    with pytest.raises(UserError, match="halves is 0; at least 1"):
        Repeats(halves=0)
