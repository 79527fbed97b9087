"""Scores of tasks: on models whose answers are known, and on n-grams worked out by hand."""

import numpy as np
import pytest
import torch
from support.answering import SURE, code_tokenizer, constant, lookup

from pellucid.eval import NGram
from pellucid.eval.capability import tasks as module
from pellucid.eval.capability.answers import (
    answer_log_probs,
    margin_accuracy,
    ngram_answer_log_probs,
    task_loss,
)
from pellucid.eval.capability.solvability import solvable
from pellucid.eval.capability.tasks import THREE, draw_all, found, tasks, tasks_quick
from pellucid.eval.score import NoValue
from pellucid.eval.tasks import TASKS, Pair, draw, pack

VOCAB = code_tokenizer().vocab_size


@pytest.fixture(scope="module", params=["for_while", "else_elif", "class_init"])
def batch(request):
    """Two answers that stay the same, one against the rest, and answers that change."""
    return draw(TASKS[request.param], code_tokenizer(), 12)


def test_a_model_that_knows_the_answers_scores_one(batch):
    log_p = answer_log_probs(lookup(batch, VOCAB), batch)
    assert (margin_accuracy(log_p) == 1).all()
    assert task_loss(log_p).max() < 1e-5


def test_a_model_that_always_prefers_answer_a_scores_one_half(batch):
    logits = torch.zeros(VOCAB)
    logits[batch.answer_a] = 3.0
    log_p = answer_log_probs(constant(logits), batch)
    if len(set(batch.answer_a.tolist())) == 1:
        assert (margin_accuracy(log_p) == 0.5).all()
    assert task_loss(log_p).mean() >= np.log(2) - 1e-6


def test_equal_scores_are_ties(batch):
    log_p = answer_log_probs(constant(torch.zeros(VOCAB)), batch)
    assert (margin_accuracy(log_p) == 0.5).all()
    if not batch.one_vs_rest:
        np.testing.assert_allclose(task_loss(log_p), np.log(2), rtol=1e-6)


def test_a_model_that_answers_the_other_way_round_scores_zero():
    batch = draw(TASKS["for_while"], code_tokenizer(), 6)
    swapped = lookup(batch, VOCAB)
    log_p = answer_log_probs(swapped, batch)[:, ::-1]
    assert (margin_accuracy(log_p) == 0).all()
    np.testing.assert_allclose(task_loss(log_p), SURE, rtol=1e-6)


def test_the_loss_is_that_of_the_paper():
    p = np.array([[[0.5, 0.1], [0.2, 0.3]]])
    expected = -0.5 * (np.log(0.5 / 0.6) + np.log(0.3 / 0.5))
    np.testing.assert_allclose(task_loss(np.log(p)), expected)
    alone = np.log(p)
    alone[:, :, 1] = np.nan
    np.testing.assert_allclose(task_loss(alone), -0.5 * (np.log(0.5) + np.log(0.8)))


def test_a_certain_model_has_a_finite_loss():
    alone = np.array([[[0.0, np.nan], [0.0, np.nan]]])
    assert np.isfinite(task_loss(alone)).all()
    assert task_loss(alone) > 10


def test_a_model_is_read_at_the_end_of_each_prompt(batch):
    """Logits that depend on the place show which one was taken."""
    place = lambda tokens: torch.arange(tokens.shape[1])[None, :, None] * torch.ones(VOCAB)
    model = constant(torch.zeros(VOCAB))
    model.predict = lambda tokens: place(tokens).repeat(len(tokens), 1, 1) * slope
    slope = torch.linspace(0, 0.1, VOCAB)
    log_p = answer_log_probs(model, batch)
    for pair in range(len(batch)):
        for side, last in enumerate((batch.last_a, batch.last_b)):
            expected = (slope * last[pair]).log_softmax(-1)[batch.answer_a[pair]]
            assert log_p[pair, side, 0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_an_ngram_answers_as_it_predicts(batch, order):
    rng = np.random.default_rng(0)
    train = np.concatenate([rng.integers(0, VOCAB, 500), batch.tokens_a.numpy().ravel()])
    ngram = NGram(train, VOCAB, order=order)
    log_p = ngram_answer_log_probs(ngram, batch)
    for pair in range(4):
        row = batch.tokens_b[pair, : batch.last_b[pair] + 1].numpy()
        whole = np.append(row, batch.answer_a[pair])
        expected = ngram.log2_probs(whole)[-1] * np.log(2)
        assert log_p[pair, 1, 0] == pytest.approx(expected, rel=1e-12)


def test_a_bigram_solves_what_the_last_token_decides():
    pairs = [Pair(f"{x} p", f"{x} q", "a", "b") for x in "klmno"]
    batch = pack(pairs, code_tokenizer(257), name="mine")
    text = "pa" * 50 + "qb" * 50
    ngram = NGram(np.array(code_tokenizer(257).encode(text)), 257, order=2)
    assert (margin_accuracy(ngram_answer_log_probs(ngram, batch)) == 1).all()
    unigram = NGram(np.array(code_tokenizer(257).encode(text)), 257, order=1)
    assert (margin_accuracy(ngram_answer_log_probs(unigram, batch)) == 0.5).all()


@pytest.mark.parametrize("back, tokens, expected", [(1, 1, 1), (2, 1, 0.5), (2, 2, 1), (4, 3, 0.5)])
def test_solvability_sees_as_far_as_it_may(back, tokens, expected):
    """The cue stands `back` tokens from the end; everything after it is the same."""
    after = "z" * (back - 1)
    seen, scored = (
        pack(
            [Pair(f"{x}p{after}", f"{x}q{after}", "a", "b") for x in letters],
            code_tokenizer(257),
            name="mine",
        )
        for letters in ("klm", "rst")
    )
    assert (solvable(seen, scored, tokens) == expected).all()


def test_endings_that_were_never_seen_decide_nothing():
    one, other = (
        pack([Pair(f"{p}", f"{q}", "a", "b")], code_tokenizer(257), name="mine")
        for p, q in (("p", "q"), ("r", "s"))
    )
    assert solvable(one, other).tolist() == [0.5]


def test_else_and_elif_are_solved_by_the_last_token_and_quotes_are_not():
    seen, scored = (draw(TASKS["else_elif"], code_tokenizer(), 24, seed=s) for s in (0, 1))
    assert solvable(seen, scored, 1).mean() == 1
    seen, scored = (
        draw(TASKS["single_double_quote"], code_tokenizer(), 24, distance=8, seed=s) for s in (0, 1)
    )
    assert abs(solvable(seen, scored, 3).mean() - 0.5) < 0.1


def test_three_tasks_stand_beside_their_controls(make_bench):
    bench = make_bench(constant(torch.zeros(VOCAB)))
    drawn = draw_all(bench, THREE, far=False)
    known = {}
    for batch in drawn.batches.values():
        known |= {id(batch): lookup(batch, VOCAB)}
    expert = found(drawn, lambda batch: answer_log_probs(known[id(batch)], batch))
    assert all(one.value == 1 for name, one in expert.items() if not (name or "").endswith("loss"))
    scores = {score.metric: score for score in tasks_quick(bench)}
    names = {"tasks_quick", "tasks_quick:loss"}
    names |= {f"tasks_quick:{name}{loss}" for name in THREE for loss in ("", ":loss")}
    assert set(scores) == names
    one = scores["tasks_quick:for_while"]
    assert (one.value, one.n, one.better) == (0.5, 64, "higher")
    assert one.controls["random_twin"] == 0.5
    assert {"unigram", "bigram", "kneser_ney_5gram", "last_3_tokens"} <= set(one.controls)
    loss = scores["tasks_quick:loss"]
    assert loss.value == pytest.approx(np.log(2), rel=1e-6)
    assert loss.better == "lower"
    assert loss.controls["last_1_tokens"] == "a table of endings gives no probabilities"


def test_tasks_that_do_not_fit_say_so(make_bench, monkeypatch):
    monkeypatch.setattr(module, "NEAR_PAIRS", 10)
    monkeypatch.setattr(module, "FAR_PAIRS", 2)
    scores = {s.metric: s for s in tasks(make_bench(constant(torch.zeros(VOCAB)), context=30))}
    far = scores["tasks:var_if:distance_128"]
    assert far.value is None
    assert any("at most the context, 30, fit" in flag for flag in far.flags)
    assert scores["tasks:for_while"].value == 0.5
    assert any(flag.startswith("without ") for flag in scores["tasks"].flags)
    with pytest.raises(NoValue, match="at most the context, 4"):
        tasks_quick(make_bench(constant(torch.zeros(VOCAB)), context=4))
