"""The learner finds planted rules within their true length, and finds nothing where nothing is."""

import numpy as np
import pytest
from support.ruled import CONTEXT, VOCAB, common_text, text_of

from pellucid.eval.halves import halves
from pellucid.eval.harvest import harvested
from pellucid.eval.rules import Settings, learn
from pellucid.eval.rules.drawn import draw
from pellucid.eval.rules.literals import Among, Count, Label, Pair
from pellucid.eval.rules.mine import gains, largest, mine, mine_tokens
from pellucid.eval.rules.predictions import Fit, fit
from pellucid.eval.rules.rule import Leaf, Ramp, Rule, Scale, Split

STREAM = common_text()
EVERY = np.arange(len(STREAM.tokens))
IS_A = halves(STREAM, 0)
RNG = np.random.default_rng(5)
LABELS = RNG.random((len(EVERY), 20)) < 0.1
TEXT = text_of(STREAM, LABELS)
ON, OFF = Leaf(2.0), Leaf(0.0)

PLANTS = {
    "token": Split(Among(0, (7,)), ON, OFF),
    "set": Split(Among(0, (3, 8, 11)), ON, OFF),
    "skip-gram": Split(Among(3, (5,)), ON, OFF),
    "bigram": Split(Pair((0, 2), (3, 2)), ON, OFF),
    "absence": Split(Among(0, (4,)), Split(Count(2, 8, 1), OFF, ON), OFF),
    "count": Split(Count(2, 2**40, 12), ON, OFF),
    "label": Split(Label(17), ON, OFF),
    "graded": Split(Among(0, (3,)), Leaf(1.0), Split(Among(0, (5,)), ON, OFF)),
    "ramp": Ramp(VOCAB, 2**40, 64, 0.0, 2.0),
    "labelled token": Split(Label(3), Split(Among(0, (1,)), ON, OFF), OFF),
}
SCALE = Scale(0.0, 1.0, 0.0)


def learned(values: np.ndarray, budget: int, text=TEXT) -> tuple[Rule, Fit]:
    """A unit's rule within a budget, and its scores on half B."""
    kept = harvested({"site": values.astype(np.float32)[:, None]})["site"]
    settings = Settings(budgets=(budget,), places=4000)
    (one,) = learn(kept, text, IS_A, STREAM.document, [0], settings)
    rule = one.rules[budget]
    assert rule.bits(text) <= budget
    return rule, fit(rule, text, kept.columns([0])[:, 0], IS_A, 0.0)


def predicted(root) -> np.ndarray:
    return Rule(root, SCALE).predict(TEXT, EVERY)


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_rule_is_found_within_its_length(name):
    plant = Rule(PLANTS[name], SCALE)
    # A leaf's value may take seven bits more where its unit's rest is the mean.
    budget = int(np.ceil(plant.bits(TEXT))) + 7 * (name in ("count", "ramp"))
    _, scores = learned(predicted(PLANTS[name]), budget)
    assert scores.r2 > 0.95
    if name != "ramp":
        assert scores.f1 > 0.98 and scores.gain > 0.9


def test_a_larger_budget_explains_no_less():
    values = predicted(PLANTS["set"]) + predicted(PLANTS["absence"])
    found = [learned(values, budget)[1].r2 for budget in (20, 40, 90)]
    assert found[0] < found[1] < found[2] and found[2] > 0.9


def superposed() -> np.ndarray:
    """One of 32 directions of 32 rules, turned at random."""
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((32, 32)))
    tokens = np.equal.outer(STREAM.tokens, np.arange(1, 33)).astype(float)
    back = np.roll(tokens, 2, axis=0)
    return (tokens * np.roll(back, 5, axis=1) * 4 + tokens + back) @ rotation[:, 3]


def test_a_superposed_unit_is_not_predicted():
    values = superposed()
    assert learned(values, 64)[1].r2 < 0.65
    assert learned(values, 32)[1].r2 < 0.4


def test_noise_is_not_predicted_though_it_could_be_fitted():
    """Rare enough that on half A alone some token or pair goes with it by chance."""
    for seed in range(6):
        values = (np.random.default_rng(seed).random(len(EVERY)) < 0.003).astype(float)
        _, scores = learned(values, 128)
        assert abs(scores.r2) < 0.02 and scores.gain < 0.02


def test_a_unit_that_always_fires_gains_nothing():
    """F1 alone would call it perfect."""
    _, scores = learned(1 + 0.01 * RNG.standard_normal(len(EVERY)), 64)
    assert scores.f1 == 1 and scores.gain == 0 and abs(scores.r2) < 0.02


def test_a_unit_that_fires_often_gains_nothing():
    _, scores = learned((RNG.random(len(EVERY)) < 0.9).astype(float), 64)
    assert scores.f1 > 0.9 and abs(scores.gain) < 0.02


def test_what_holds_on_half_a_alone_is_worth_nothing_on_half_b():
    values = np.where(IS_A, predicted(PLANTS["token"]), RNG.permutation(predicted(PLANTS["token"])))
    _, scores = learned(values, 64)
    assert scores.r2 < 0 and scores.gain < 0.1


def test_a_dead_unit_scores_0_and_says_nothing():
    rule, scores = learned(np.zeros(len(EVERY)), 64)
    assert scores == Fit(0.0, 0.0, 0.0) and rule.root == Leaf(0.0)


def test_the_same_seed_gives_the_same_rules():
    values = superposed()
    assert learned(values, 64) == learned(values, 64)


def test_a_text_longer_than_its_rows_is_counted_from_their_start():
    """The row cuts documents of 250 tokens: a rule knows what its model could know."""
    assert TEXT.count(VOCAB, 2**40, EVERY).max() == CONTEXT


def test_the_best_questions_are_those_of_a_search_through_all():
    """Of every token at an offset and every pair, one by one: the same gains, none overlooked."""
    values = predicted(PLANTS["graded"]) + predicted(PLANTS["bigram"]) + 0.3 * TEXT.at(1, EVERY)
    drawn, _ = draw(TEXT, EVERY, values, IS_A, most=400, seed=[0])
    rows = np.arange(0, len(drawn.places), 2)
    weight = drawn.weight[rows]
    moved = weight * drawn.values[rows]

    def gain(literal) -> float:
        held = literal.holds(TEXT, drawn.places[rows])
        return gains(weight[held].sum(), moved[held].sum(), weight.sum(), moved.sum())

    every = [Among(offset, (token,)) for offset in range(9) for token in range(VOCAB + 1)]
    best = sorted((gain(literal) for literal in every), reverse=True)[:6]
    singles = mine_tokens(drawn, rows)
    np.testing.assert_allclose([one.gain for one in singles], best, rtol=1e-9)
    found = [one for one in mine(drawn, rows)[0] if not isinstance(one.literal, Label)]
    for one in found:
        np.testing.assert_allclose(one.gain, gain(one.literal), rtol=1e-9)
    pairs = [(0, 2), (1, 3), (0, 8)]
    both = [Pair(o, (a, b)) for o in pairs for a in range(VOCAB + 1) for b in range(VOCAB + 1)]
    best = max(one.gain for one in found if isinstance(one.literal, Pair))
    assert best >= max(map(gain, both)) - 1e-9


def test_the_largest_are_found_in_order_and_the_first_of_equals():
    numbers = np.array([[1.0, 5.0, 5.0], [2.0, 5.0, 3.0]])
    assert largest(numbers, 4) == [1, 2, 4, 5]
    assert numbers.max() == 5.0
