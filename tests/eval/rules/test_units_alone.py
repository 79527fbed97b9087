"""Description length, output purity, intruders and the sign of effects, each against plants."""

import math

import numpy as np
import pytest
import torch
from support.causes import Caused
from support.planted import stream_of
from support.ruled import CONTEXT, VOCAB, Spoken, common_text, text_of

from pellucid.eval.halves import halves
from pellucid.eval.harvest import harvested
from pellucid.eval.reader import Reader
from pellucid.eval.rules import Settings, Text, learn, purities
from pellucid.eval.rules.description_length import bits_of_set, bits_per_token, description_length
from pellucid.eval.rules.effect import agreement, spoken_for, unit_agreement
from pellucid.eval.rules.intruder import Embedding, farthest, found, judged, prompt
from pellucid.eval.rules.literals import Among
from pellucid.eval.rules.output_purity import (
    class_purity,
    classes_of_words,
    output_entropy,
    purity,
)
from pellucid.eval.rules.rule import Leaf, Rule, Scale, Split
from pellucid.eval.workbench import Workbench


def test_sets_and_magnitudes_are_counted_by_hand():
    np.testing.assert_allclose(bits_of_set(4), np.log2([1, 4, 6, 4, 1]), atol=1e-12)
    assert bits_of_set(1000)[32] == pytest.approx(math.log2(math.comb(1000, 32)))
    found = bits_per_token(np.array([0, 2, 4]), 4)
    np.testing.assert_allclose(found, [0, math.log2(6) + 14, 28], atol=1e-12)


def test_a_sparse_layer_is_short_to_write_down():
    stream = common_text(12, 20)
    values = np.zeros((len(stream.tokens), 64), dtype=np.float32)
    values[:, 3] = 1
    kept = harvested({"sparse": values, "dense": np.ones_like(values)})
    sparse = description_length(kept["sparse"], stream, seed=0)
    assert sparse.value == pytest.approx(6 + 7) and sparse.low == pytest.approx(13)
    assert description_length(kept["dense"], stream, seed=0).value == 64 * 7


def test_a_unit_that_speaks_for_one_token_is_pure_and_one_for_all_is_not():
    one, flat = torch.zeros(1, 1000), torch.full((1, 1000), 3.0)
    one[0, 17] = 5
    noise = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    found = purity(torch.cat([one, flat, noise]))
    assert found[0] > 0.99 and found[1] == 0 and found[2] < 0.15
    entropy = output_entropy(torch.cat([one, noise]))
    assert entropy[0] < 0.1 and entropy[1] > 8


def test_class_purity_is_that_of_the_ten_most_promoted():
    logits = -torch.arange(100.0)[None]
    classes = np.where(np.arange(100) < 7, 2, 5)
    assert class_purity(logits, classes)[0] == 0.7


def test_a_word_is_of_the_class_that_it_most_often_has():
    tokens, classes = np.array([0, 0, 0, 1, 2, 2]), np.array([3, 3, 1, 2, -1, -1])
    found = classes_of_words(tokens, classes, 5)
    assert found[:2].tolist() == [3, 2]
    # Words that are not seen, or have no class where they are, are each of a kind of their own.
    assert len(set(found[2:].tolist())) == 3 and found[2:].min() > 3


@pytest.mark.parametrize("told", [True, False])
def test_what_units_write_is_shown_in_three_numbers(monkeypatch, told):
    stream, vocab_size = common_text(12, 60), VOCAB
    of_a_class = [*range(20, 27), *range(30, 33)]
    effects = torch.zeros(3, vocab_size)
    effects[0, 7] = 5
    effects[1, of_a_class] = 1
    model = Caused([lambda t: t == 4, lambda t: t == 5, lambda t: t < 0], effects)
    reader = Reader(model, stream, CONTEXT)
    bench = Workbench(reader, reader, stream.tokens, vocab_size, "val", 0)
    if told:
        kinds = np.where(np.arange(vocab_size) < 27, 2, 5)
        counted = lambda *_: kinds
        monkeypatch.setattr(purities, "classes_of", lambda bench: np.zeros(1))
        monkeypatch.setattr(purities.output_purity, "classes_of_words", counted)
    scores = {s.metric: s for s in purities.output_purities(bench) if s.site == "blocks.0.mlp"}
    assert list(scores) == list(purities.BETTER)
    entropy = output_entropy(effects[:2]).mean()
    assert scores["output_purity:entropy"].value == pytest.approx(entropy)
    assert scores["output_purity:entropy"].better == "lower"
    one = scores["output_purity:one_class"]
    if told:
        first = purities.output_purity.class_purity(effects[:1], kinds)[0]
        assert one.value == pytest.approx((first + 0.7) / 2)
    else:
        assert one.value is None and "without the tokenizer" in one.flags[0]


def test_intruders_are_found_where_a_unit_means_something():
    stream = common_text(40, 200)
    embedding, n = Embedding(text_of(stream)), len(stream.tokens)
    for token in (9, 20):
        places = np.flatnonzero(stream.tokens == token)
        share = found(embedding, places, np.ones(len(places)), trials=40, seed=[0])
        assert share > 0.75
    rng = np.random.default_rng(0)
    # As often active as the units above: how often says nothing.
    lots = [np.sort(rng.choice(n, 150, replace=False)) for _ in range(12)]
    chance = [found(embedding, p, rng.random(150), trials=20, seed=[i]) for i, p in enumerate(lots)]
    assert 0.1 < np.mean(chance) < 0.3


def test_units_that_fire_too_rarely_or_always_are_not_judged():
    embedding = Embedding(text_of(common_text(3, 30)))
    assert found(embedding, np.arange(5), np.ones(5), trials=2, seed=[0]) is None
    every = np.arange(len(embedding.text.tokens))
    assert found(embedding, every, np.ones(len(every)), trials=2, seed=[0]) is None


def test_ties_share_the_guess():
    np.testing.assert_allclose(farthest(np.eye(5)), 0.2)
    np.testing.assert_allclose(farthest(np.eye(2)[[0, 0, 0, 0, 1]]), [0, 0, 0, 0, 1])


def test_a_judge_is_asked_in_text_and_answers_in_text():
    stream = stream_of([[5, 7, 5, 9], [7, 5, 8, 8]])
    text, windows = Text.of(stream, context=5, vocab_size=10), np.array([1, 3, 6, 7, 9])
    asked = prompt(text, windows, str)
    assert "2. '0575'" in asked and asked.count("\n") == 6
    right = lambda asked: asked.partition(". '07588'")[0][-1]
    assert judged(right, text, windows, str, seed=[0]) == 1
    assert judged(lambda asked: "I do not know", text, windows, str, seed=[0]) == 0.2
    guesses = [judged(lambda asked: "2", text, windows, str, seed=[i]) for i in range(200)]
    assert 0.1 < np.mean(guesses) < 0.3


def test_agreement_is_weighted_and_ties_count_half():
    expected = np.array([3.0, -1.0, 0.0])
    assert agreement(np.array([1.0, -1.0, 5.0]), expected) == 1
    assert agreement(np.array([1.0, 1.0, 5.0]), expected) == 0.5
    assert agreement(np.array([1.0, 0.0, 5.0]), expected) == 0.75
    assert agreement(np.ones(2), np.ones(2)) == 0.75
    assert agreement(np.array([0.0, 0.0, 1.0]), expected) == 0.5
    assert agreement(np.ones(3), np.zeros(3)) == 0.5


def test_what_a_unit_raises_is_read_from_its_effects():
    effects = torch.tensor([[1.0, 0, -1, 0], [0.5, 0, 0, -1]])
    signs = spoken_for(effects, torch.tensor([1.0, 1.0]))
    assert signs.argmax() == 0 and signs.sum() == 0
    assert (spoken_for(effects, -torch.ones(2)) == -signs).all()


@pytest.fixture(scope="module")
def spoken() -> Reader:
    model = Spoken(torch.eye(VOCAB))
    return Reader(model, model.text(30, 100), context=64)


def test_a_rule_that_is_right_predicts_the_sign_and_one_that_is_wrong_does_not(spoken):
    kept, is_a = spoken.harvest["blocks.0.mlp"], halves(spoken.stream, 0)
    text = Text.of(spoken.stream, context=64, vocab_size=VOCAB)
    unit = int(np.bincount(spoken.stream.tokens)[1:].argmax()) + 1
    settings = Settings(budgets=(64,), places=2000)
    (one,) = learn(kept, text, is_a, spoken.stream.document, [unit], settings)
    values = kept.columns([unit])[:, 0]
    about = (text, is_a, values)
    right = unit_agreement(spoken, "blocks.0.mlp", one, one.rules[64], *about)
    other = 1 + unit % 20
    wrong = Rule(Split(Among(0, (other,)), Leaf(1.0), Leaf(0.0)), Scale(0.0, 1.0, 0.0))
    assert right > 0.95
    assert unit_agreement(spoken, "blocks.0.mlp", one, wrong, *about) < 0.6
    silent = Rule(Leaf(one.mean), Scale(one.mean, 1.0, one.mean))
    assert unit_agreement(spoken, "blocks.0.mlp", one, silent, *about) == 0.5
