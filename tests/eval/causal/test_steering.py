"""Steering by units whose effects are known."""

import numpy as np
import pytest
import torch
from support.causes import Caused
from support.planted import stream_of

from pellucid.eval.causal.chosen import Unit, ranked
from pellucid.eval.causal.judge import by_ngram, judge_of
from pellucid.eval.causal.pushes import VECTORS
from pellucid.eval.causal.realising import log_odds, realising, without
from pellucid.eval.causal.steered import NOTHING, Steered, steered
from pellucid.eval.causal.steering import (
    METHODS,
    MISSING,
    UNIT,
    Steers,
    measure,
    steering,
    subject_of,
)
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.labels.table import Label, LabelTable
from pellucid.eval.ngram import NGram
from pellucid.eval.reader import Reader
from pellucid.eval.workbench import Workbench

SITE, VOCAB, CUE, REALISES = "blocks.0.mlp", 10, 2, 1
CUED = lambda t: (t == CUE).float()
OTHER = lambda t: (t == 5).float()
ALWAYS = lambda t: torch.ones_like(t, dtype=torch.float)


def to(tokens: list[int], strength: float) -> torch.Tensor:
    effect = torch.zeros(VOCAB)
    effect[tokens] = strength
    return effect


def a_text():
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(20):
        drawn = rng.integers(2, VOCAB, 150)
        texts.append([t for token in drawn for t in ([CUE, REALISES] if token == CUE else [token])])
    return stream_of(texts)


TEXT = a_text()


def table() -> LabelTable:
    """After 1; after a high token; and after the token 3 or 4."""
    named = {"one": [REALISES], "high": [8, 9], "low": [3, 4]}
    after = np.stack([np.isin(TEXT.tokens, held) for held in named.values()], axis=1)
    labels = [Label(name, "identifier", "dev", prefix=True) for name in named]
    return LabelTable.of(after, labels, known=TEXT.tokens != 0)


def a_bench(rules, effects, *, twin=None, base=None, **about_units) -> Workbench:
    model = Caused(rules, torch.stack(effects), base=base, **about_units)
    twin = twin or Caused(rules, torch.zeros(len(rules), VOCAB))
    readers = (Reader(each, TEXT, context=32) for each in (model, twin))
    about = {"split": "val", "seed": 0, "labelled": table}
    return Workbench(*readers, TEXT.tokens, VOCAB, **about)


def found(bench: Workbench, method: str = UNIT) -> dict:
    return measure(bench.reader, subject_of(bench, judge_of(bench)), method)


def steers_of(bench: Workbench) -> Steers:
    return Steers(bench.reader, subject_of(bench, judge_of(bench)))


def test_a_unit_that_writes_the_label_steers_to_it():
    scores = found(a_bench([CUED, OTHER], [to([REALISES], 4.0), to([3], 0.0)]))
    assert scores["one"].value > 0.9
    # Turned up fourfold: 16 nats, of which nothing goes to other tokens.
    assert scores["cost"].value > 0


def test_units_that_go_with_the_label_or_are_always_on_do_not_steer():
    by_the_base = lambda t: CUED(t)[..., None] * to([REALISES], 4.0)
    inert = found(a_bench([CUED, OTHER], [torch.zeros(VOCAB)] * 2, base=by_the_base))
    assert inert[None].value == 0 and inert["success"].value == 0
    assert "no strength flips half" in inert["cost"].flags[0]
    # A unit that lifts all tokens alike moves nothing.
    always = found(a_bench([ALWAYS, OTHER], [torch.ones(VOCAB), to([3], 0.0)]))
    assert always["one"].value == 0


def test_a_unit_that_drags_other_labels_along_is_less_specific():
    clean = found(a_bench([CUED, OTHER], [to([REALISES], 4.0), to([3], 0.0)]))
    dragged = to([REALISES], 4.0) + to([8, 9], 2.0)
    scores = found(a_bench([CUED, OTHER], [dragged, to([3], 0.0)]))
    assert scores["one"].value < clean["one"].value - 0.1


BOTH = lambda t: torch.where(t == CUE, 1.0, torch.where(t == 5, -0.25, 0.0))
"""Speaks for the label above 0, and of something else below it."""


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("method", [UNIT, "difference_in_means"])
def test_a_label_that_is_announced_below_0_is_steered_to_alike(method, sparse):
    about = {"signed": True, "sparse": sparse}
    effects = [to([REALISES], 4.0), to([3], 0.0)]
    above = found(a_bench([BOTH, OTHER], effects, **about), method)
    mirrored = [lambda t: -BOTH(t), OTHER]
    below = found(a_bench(mirrored, [-effects[0], effects[1]], **about), method)
    assert above["one"].value == below["one"].value > 0.8
    assert above == below


def test_a_push_goes_to_the_side_of_the_label_by_what_the_unit_does_there():
    far = lambda t: torch.where(t == CUE, -3.0, torch.where(t == 5, 8.0, 0.0))
    bench = a_bench([far, OTHER], [to([REALISES], -2.0), to([3], 0.0)], signed=True)
    steers = steers_of(bench)
    (best,) = ranked(bench.reader.harvest, steers.subject.truth, most=1)[0]
    assert best == (Unit(SITE, 0), -1, 1.0)
    (edit,) = steers.pusher.by_unit(best.unit, best.sign)(2.0).values()
    assert float(edit.value) == -6.0
    (edit,) = steers.pusher.by_vector("random_direction", *best[:2], 0)(2.0).values()
    assert float(edit.value.norm()) == pytest.approx(2.0 * 3.0 * 2.0, rel=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_random_unit_is_pushed_to_its_usual_side(sparse):
    # Two tokens of eight below 0, one above it, where it goes further.
    mostly_below = lambda t: -2.0 * torch.isin(t, torch.tensor([5, 6])) + 5.0 * (t == 7)
    effects = [to([REALISES], 4.0), to([3], 0.0)]
    for sign in (1, -1):
        rules = [CUED, lambda t, sign=sign: sign * mostly_below(t)]
        pusher = steers_of(a_bench(rules, effects, signed=True, sparse=sparse)).pusher
        (edit,) = pusher.by_random_unit(Unit(SITE, 0), 0)(1.0).values()
        assert edit.units.tolist() == [1] and float(edit.value) == -2.0 * sign


def test_labels_with_one_unit_are_held_against_random_units_of_their_own():
    rules = [CUED, *[lambda t, of=of: t == of for of in (3, 4, 5, 6, 7) * 4]]
    pusher = steers_of(a_bench(rules, [to([REALISES], 4.0)] + [to([3], 0.1)] * 20)).pusher
    drawn = []
    for label in range(8):
        (edit,) = pusher.by_random_unit(Unit(SITE, 0), label)(1.0).values()
        drawn.append(edit.units.tolist()[0])
    assert len(set(drawn)) > 3


@pytest.mark.parametrize("method", METHODS)
def test_what_needs_no_units_is_measured_alike(method):
    bench = a_bench([CUED, OTHER], [to([REALISES], 4.0), to([3], 0.0)])
    scores = found(bench, method)
    if method in ("difference_in_means", "unembedding_row"):
        assert scores["one"].value > 0.8
    if method in ("random_unit", "prompt_prefix"):
        # The other unit writes nothing; what stands before the last token is not read.
        assert scores["one"].value == 0
    assert 0 <= scores[None].value <= 1


def test_vectors_are_as_long_as_the_units_own():
    bench = a_bench([CUED, OTHER], [to([REALISES], 3.0), to([3], 0.0)])
    steers = steers_of(bench)
    for method in VECTORS:
        (edit,) = steers.pusher.by_vector(method, Unit(SITE, 0), 1, 0)(2.0).values()
        assert float(edit.value.norm()) == pytest.approx(2.0 * 1.0 * 3.0, rel=1e-5)
    assert steers.pusher.high(Unit(SITE, 0), 1) == 1.0
    assert steers.pusher.high(Unit(SITE, 0), -1) == 0.0


def test_the_three_parts_by_hand():
    on = torch.eye(3, 4, dtype=torch.bool)
    before = torch.full((1, 4), 0.25).log()
    after = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).log()
    uniform = torch.full((1, 4), 0.25).log()
    one = steered(before, after, uniform, on, 0)
    assert one == pytest.approx((0.6, 1.0, 1.0))
    assert one.score == pytest.approx(3 / (1 / 0.6 + 2))
    assert steered(before, before, uniform, on, 0) == NOTHING
    assert steered(after, before, uniform, on, 0).score == 0.0
    # Of the rest, ½ ¼ ¼ in the place of thirds; the judge gives its first token e⁻⁴ of the others.
    judge = torch.tensor([[0.0, -4.0, 0.0, 0.0]]).log_softmax(1)
    skewed = torch.tensor([[0.6, 0.2, 0.1, 0.1]]).log()
    other = steered(before, skewed, judge, on, 0)
    assert other.fluency == pytest.approx(np.exp(-4 * (0.5 - 1 / 3)), rel=1e-5)
    shift = np.log(1.5) - np.log(1 / 3)
    moved = (np.log(2.0) + (np.log(1 / 2) - np.log(1 / 3))) / 2
    assert other.specificity == pytest.approx(1 - moved / shift, rel=1e-4)
    assert Steered(1.0, 0.0, 1.0).score == 0.0


def test_tokens_that_realise_a_label_are_found_on_half_a():
    truth = Truth(
        ("one", "often"),
        np.stack([TEXT.tokens == REALISES, TEXT.tokens > 1], axis=1),
        TEXT.tokens != 0,
        TEXT.document % 2 == 0,
        TEXT.document,
    )
    on = realising(TEXT.tokens, truth, VOCAB)
    assert np.flatnonzero(on[0]).tolist() == [REALISES]
    # Eight of nine tokens: no token makes that twice as likely.
    assert not on[1].any()


def test_log_odds_and_what_is_left():
    log_p = torch.tensor([[0.5, 0.25, 0.25]]).log()
    on = torch.tensor([True, False, False])
    assert log_odds(log_p, on).tolist() == pytest.approx([0.0])
    torch.testing.assert_close(without(log_p, on).exp(), torch.tensor([[0.0, 0.5, 0.5]]))


def test_the_ngram_judges_as_it_predicts():
    ngram = NGram(TEXT.tokens, VOCAB, order=3)
    prompts = torch.from_numpy(TEXT.tokens[:12]).view(2, 6)
    log_p = by_ngram(ngram, prompts)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(2))
    row = np.append(prompts[1].numpy(), 3)
    assert float(log_p[1, 3]) == pytest.approx(ngram.log2_probs(row)[-1] * np.log(2), rel=1e-5)


def test_no_model_judges_itself_and_all_are_judged_alike():
    dragged = [to([REALISES], 4.0) + to([8, 9], 2.0), to([3], 0.0)]
    alone, beside = (a_bench([CUED, OTHER], dragged) for _ in range(2))
    # A dense run that holds 5 to be far likelier than the text does.
    favours = lambda t: to([5], 6.0).expand(*t.shape, VOCAB)
    beside.controls["dense_neurons"] = a_bench([CUED, OTHER], dragged, base=favours).reader
    prompts = torch.from_numpy(TEXT.tokens[:12]).view(2, 6)
    expected = by_ngram(NGram(TEXT.tokens, VOCAB, order=5), prompts)
    assert torch.equal(judge_of(beside)(prompts), expected)
    assert found(beside) == found(alone)


def test_scores_stand_beside_the_twin_and_what_needs_no_units():
    bench = a_bench([CUED, OTHER], [to([REALISES], 4.0), to([3], 0.0)])
    scores = {score.metric: score for score in steering(bench)}
    whole = scores["steering"]
    assert whole.controls["random_twin"] == 0.0 and set(METHODS) < set(whole.controls)
    assert all(whole.controls[name] == why for name, why in MISSING.items())
    assert scores["steering:one"].controls["permutation_null"] == MISSING["permutation_null"]
    said = "fluency by a 5-gram, for every model alike: a dense run would judge itself"
    assert said in whole.flags
    assert scores["steering:one"].value > 0.9
    assert scores["steering:cost"].better == "lower"
