"""Copying of repeated tokens, and the validity of samples, on models that are known."""

import numpy as np
import pytest
import torch
from support.answering import code_tokenizer, constant, silent
from support.planted import Planted

from pellucid.eval.capability import sample_validity
from pellucid.eval.capability.induction import copied, induction, repeated
from pellucid.eval.capability.sample_validity import balanced, judged, statements
from pellucid.eval.score import NoValue

VOCAB = 50


def copier(vocab_size=VOCAB, strength=6.0):
    """Predicts the token that followed the same token before: an induction head."""

    def predict(tokens):
        logits = torch.zeros(*tokens.shape, vocab_size)
        for i, row in enumerate(tokens.tolist()):
            for end in range(len(row)):
                before = [at for at in range(end) if row[at] == row[end]]
                if before:
                    logits[i, end, row[before[-1] + 1]] = strength
        return logits

    return Planted([silent], vocab_size=vocab_size, predict=predict)


def test_repeated_rows_repeat_and_never_hold_the_eot():
    rows = repeated(VOCAB, 20, eot=7, seed=1)
    assert torch.equal(rows[:, 1:21], rows[:, 21:])
    assert (rows[:, 0] == 7).all() and (rows[:, 1:] != 7).all()
    assert rows.max() == VOCAB - 1 and rows.min() == 0
    assert torch.equal(rows, repeated(VOCAB, 20, eot=7, seed=1))


def test_a_model_that_copies_gains_and_one_that_does_not_gains_nothing():
    rows = repeated(VOCAB, 8, eot=0, seed=0)
    gained = copied(copier(), rows, seed=0)
    assert gained[None].value < -2
    assert gained["copied"].low > 0.75
    even = copied(constant(torch.zeros(VOCAB)), rows, seed=0)
    assert (even[None].value, even["copied"].value) == (0, 0.5)


def test_a_model_that_likes_some_tokens_copies_nothing():
    """A unigram model: its favourites are as likely in both halves."""
    logits = torch.linspace(-3, 3, VOCAB)
    found = copied(constant(logits), repeated(VOCAB, 24, eot=0, seed=0), seed=0)
    assert found[None].value == pytest.approx(0, abs=1e-9)
    assert found["copied"].low < 0.5 < found["copied"].high


def test_induction_stands_beside_its_controls(make_bench):
    size = code_tokenizer().vocab_size
    scores = {s.metric: s for s in induction(make_bench(copier(size), context=24))}
    assert scores["induction"].value < -2
    assert (scores["induction"].better, scores["induction"].n) == ("lower", 48)
    assert scores["induction"].controls["random_twin"] == 0
    assert scores["induction:copied"].controls["random_twin"] == 0.5
    with pytest.raises(NoValue, match="a context of 6 has no room"):
        induction(make_bench(copier(size), context=6))


VALID = "import os\n\ndef f(a):\n    return os.path.join(a)\n"


def test_only_whole_statements_are_judged():
    assert statements(VALID + "\nclass Cut:\n    def g(se") == VALID + "\n"
    assert statements("x = [\n    1,\n]\ny = (") == "x = [\n    1,\n]\n"
    assert statements("    indented\n  all\n") == ""
    assert statements("") == ""


def test_samples_are_judged_by_the_parser():
    samples = [VALID + "y", "x = y\nz", "def f(:\n    pass\nx", "\n\n\n", "# only a comment\nx = 1"]
    found = judged(samples, seed=0)
    assert found[None].value == pytest.approx(2 / 5)
    # `os` and `a` are bound; `y` is not.
    assert found["undefined"].value == pytest.approx(1 / 3)
    # The third is no Python, though its brackets are even.
    assert found["balanced"].value == pytest.approx(3 / 5)


@pytest.mark.parametrize("text", ["\n", " \n", "#\n", ""])
def test_writing_nothing_is_not_valid(text):
    found = judged([text * 50] * 4, seed=0)
    assert found[None].value == 0
    assert found["undefined"].value is None


@pytest.mark.parametrize(
    "text, even",
    [
        ("f(a[1], {2: 3})\n", True),
        ("f(a]\n", False),
        ("f(\n", False),
        (")\n", False),
        ("'('\n", True),
    ],
)
def test_brackets_in_code_are_counted(text, even):
    assert balanced(text) is even


def test_what_a_model_writes_is_cut_at_its_eot(make_bench, monkeypatch):
    tokenizer = code_tokenizer()
    text = tokenizer.encode("x = 1\ny = x\nz")
    rows = torch.tensor([[tokenizer.eot, *text, tokenizer.eot, *text]] * 4)
    monkeypatch.setattr(sample_validity, "generate", lambda model, prompt, n, seed: rows)
    bench = make_bench(constant(torch.zeros(tokenizer.vocab_size)))
    scores = {s.metric: s for s in sample_validity.sample_validity(bench)}
    assert scores["sample_validity"].value == 1
    assert scores["sample_validity:undefined"].value == 0
    assert scores["sample_validity:undefined"].better == "lower"
    assert scores["sample_validity"].controls["ceiling_held_out_text"] == 1


def test_samples_come_from_the_model_and_the_seed(make_run):
    run = make_run("topk")
    words = lambda seed: sample_validity.write(
        run.model, run.tokenizer, eot=run.tokenizer.eot, context=32, seed=seed
    )
    assert words(0) == words(0) != words(1)
    assert len(words(0)) == sample_validity.SAMPLES
    assert np.mean([len(word) for word in words(0)]) > 10
