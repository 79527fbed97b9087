"""The same measure of the run and of every control, and what is said when a control does as well."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.planted import Planted, random_stream

from pellucid.eval.bootstrap import Interval
from pellucid.eval.controls import CONTROLS, NO_PASS, NOT_MADE, as_good, made_units, under_controls
from pellucid.eval.made import MadeUnits
from pellucid.eval.permuted import permuted_weights, shuffled
from pellucid.eval.reader import Reader
from pellucid.eval.rotation import rotated
from pellucid.eval.score import NoValue
from pellucid.eval.workbench import Workbench

SITE, VOCAB = "blocks.0.mlp", 7


def a_bench() -> Workbench:
    text = random_stream(12, 20, vocab_size=VOCAB)
    rules = [lambda t: t == 1, lambda t: t == 2]
    reader = Reader(Planted(rules, vocab_size=VOCAB), text, context=16)
    twin = Reader(Planted(rules[::-1], vocab_size=VOCAB), text, context=16)
    made = made_units(reader, seed=0)
    return Workbench(reader, twin, text.tokens, VOCAB, split="val", seed=0, controls=made)


def share_of_first(system) -> dict:
    """Where the first unit is active: no control of this bench has it but the twin's second."""
    if SITE not in system.sites():
        return {}
    kept = system.harvest[SITE]
    value = float((kept.columns([0])[:, 0] * (system.stream.tokens == 1)).mean())
    return {SITE: Interval(value, value - 0.01, value + 0.01, 12)}


def test_every_control_is_measured_alike_or_says_why_not():
    bench = a_bench()
    (score,) = under_controls(bench, "made_up", share_of_first, better="higher")
    assert score.site == SITE and score.unit_family == "mlp"
    assert score.value == pytest.approx((bench.stream.tokens == 1).mean())
    assert set(score.controls) == set(CONTROLS)
    assert score.controls["random_twin"] == 0.0
    assert score.controls["permuted_weights"] == NOT_MADE
    assert isinstance(score.controls["rotated_units"], float)
    assert "no site of the model shows what this layer reads" in score.controls["pca"]


def test_what_must_be_said_of_a_control_stands_beside_its_number():
    bench, remark = a_bench(), "its components had not settled"
    bench.controls["ica"] = MadeUnits(
        bench.reader, lambda source: replace(rotated(source, seed=0), remark=remark)
    )
    (score,) = under_controls(bench, "m", share_of_first, better="higher")
    assert isinstance(score.controls["ica"], float) and f"ica: {remark}" in score.flags
    of_all = lambda system: {None: share_of_first(system)[SITE]}
    without = dict.fromkeys(("random_dictionary", "pca"), "it has no such site")
    (score,) = under_controls(bench, "m", of_all, better="higher", without=without)
    assert f"ica: {remark}" in score.flags
    (score,) = under_controls(bench, "m", share_of_first, better=None, without={"ica": "too slow"})
    assert score.controls["ica"] == "too slow"
    assert not any(remark in flag for flag in score.flags)


def test_a_measure_is_never_taken_without_the_random_twin():
    with pytest.raises(ValueError, match="random_twin must be among"):
        under_controls(a_bench(), "m", share_of_first, better=None, without={"random_twin": "-"})
    with pytest.raises(TypeError, match="twin"):
        Workbench(a_bench().reader, train=np.zeros(1, int), vocab_size=2, split="val", seed=0)


def test_a_measure_that_cannot_be_taken_is_a_score_without_a_value():
    def refuse(system):
        raise NoValue("there is nothing to count")

    (score,) = under_controls(a_bench(), "m", refuse, better="higher")
    assert score.value is None
    assert score.flags[0] == "no value: there is nothing to count"
    assert score.controls["random_twin"] == "there is nothing to count"


def test_flags_and_references_stand_beside_the_value():
    (score,) = under_controls(
        a_bench(),
        "m",
        share_of_first,
        better="higher",
        without=NO_PASS,
        references={
            "bigram": {SITE: Interval(0.9, None, None, 1)},
            "ceiling_probe": {SITE: Interval(1.0, None, None, 1)},
        },
        flags={SITE: ("a sentence",)},
    )
    assert (score.controls["bigram"], score.controls["ceiling_probe"]) == (0.9, 1.0)
    assert set(score.controls) == {*CONTROLS, "bigram", "ceiling_probe"}
    assert {name: score.controls[name] for name in NO_PASS} == NO_PASS
    assert score.flags == ("a control scores as well: bigram 0.9", "a sentence")


@pytest.mark.parametrize(
    ("better", "control", "said"),
    [
        ("higher", 0.39, False),
        ("higher", 0.41, True),
        ("higher", 0.9, True),
        ("lower", 0.59, True),
        ("lower", 0.61, False),
        ("lower", 0.1, True),
        (None, 0.9, False),
    ],
)
def test_a_control_within_the_interval_or_beyond_it_scores_as_well(better, control, said):
    found = Interval(0.5, 0.4, 0.6, 12)
    assert bool(as_good(found, {"random_twin": control, "pca": "a reason"}, better)) == said


def test_without_an_interval_the_value_is_the_bar():
    found = Interval(0.5, None, None, 3)
    assert as_good(found, {"random_twin": 0.49}, "higher") == ()
    assert as_good(found, {"random_twin": 0.5}, "higher") == (
        "a control scores as well: random_twin 0.5",
    )
    assert as_good(Interval(None, None, None, 0), {"random_twin": 0.5}, "higher") == ()


def test_permuted_matrices_hold_the_same_numbers_elsewhere(make_run):
    run = make_run()
    with torch.no_grad():
        weight = run.model.blocks[0].mlp.w_enc
        weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.7] = 0
    permuted, again = permuted_weights(run, seed=0), permuted_weights(run, seed=0)
    other = permuted_weights(run, seed=1)
    for (name, ours), theirs in zip(run.model.named_parameters(), permuted.parameters()):
        assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values), name
        if ours.ndim >= 2:
            assert not torch.equal(ours, theirs), name
        else:
            assert torch.equal(ours, theirs), name
    for a, b, c in zip(permuted.parameters(), again.parameters(), other.parameters()):
        assert torch.equal(a, b)
        assert a.ndim < 2 or not torch.equal(a, c)
    assert not any(a is b for a, b in zip(run.model.parameters(), permuted.parameters()))


def test_a_stack_is_shuffled_matrix_by_matrix():
    stack = torch.arange(24.0).view(2, 3, 4)
    mixed = shuffled(stack, torch.Generator().manual_seed(0))
    for before, after in zip(stack, mixed):
        assert sorted(after.flatten().tolist()) == before.flatten().tolist()
        assert not torch.equal(before, after)
