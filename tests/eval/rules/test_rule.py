"""Rules say what they mean, cost what the code says, and see nothing that the model does not."""

import math

import numpy as np
import pytest
from support.planted import stream_of
from support.ruled import VOCAB, text_of

from pellucid.eval.rules.literals import Among, Count, Label, Pair
from pellucid.eval.rules.rule import LONG, SHORT, Leaf, Ramp, Rule, Scale, Split
from pellucid.eval.rules.text import WINDOWS, Text

SYMBOL = math.log2(VOCAB + 1)
SCALE = Scale(mean=0.5, spread=1.0, rest=0.0)
STREAM = stream_of([[5, 7, 5, 5], [7, 5]])
"""eot 5 7 5 5 eot 7 5"""


def test_type_codes_are_prefix_free_and_complete():
    assert 3 * 2**-SHORT + 4 * 2**-LONG == 1
    assert len(SCALE.values) == 2**7


@pytest.mark.parametrize(
    ("root", "bits"),
    [
        (Leaf(0.0), 2),
        (Leaf(0.5), 2 + 7),
        # split 2 · current token 1 · one token in unary 1 · which one · value 2 + 7 · rest 2
        (Split(Among(0, (5,)), Leaf(2.5), Leaf(0.0)), 2 + 1 + 1 + SYMBOL + 9 + 2),
        (Split(Among(3, (5, 7)), Leaf(2.5), Leaf(0.0)), 2 + 4 + 2 + 2 * SYMBOL + 9 + 2),
        (Split(Pair((0, 2), (5, 7)), Leaf(2.5), Leaf(0.0)), 4 + 1 + 4 + 2 * SYMBOL + 9 + 2),
        (Split(Count(5, 16, 3), Leaf(0.0), Leaf(2.5)), 4 + 3 + 4 + SYMBOL + 2 + 9),
        (Split(Label(1), Leaf(2.5), Leaf(0.0)), 4 + 2 + 9 + 2),
        (Ramp(VOCAB, 16, 8, 0.0, 2.5), 4 + 3 + 4 + SYMBOL + 14),
        (
            Split(Among(0, (5,)), Split(Count(7, 8, 1), Leaf(0.0), Leaf(2.5)), Leaf(0.0)),
            (2 + 1 + 1 + SYMBOL) + (4 + 7 + SYMBOL) + 2 + 9 + 2,
        ),
    ],
)
def test_lengths_by_hand(root, bits):
    text = text_of(STREAM, labels=np.zeros((len(STREAM.tokens), 4), dtype=bool))
    assert Rule(root, SCALE).bits(text) == pytest.approx(bits)


def test_literals_by_hand():
    text, every = text_of(STREAM), np.arange(8)
    held = lambda literal: "".join("01"[h] for h in literal.holds(text, every).astype(int))
    assert held(Among(0, (5,))) == "01011001"
    assert held(Among(1, (5, 7))) == "00111101"[:6] + "01"
    assert held(Pair((0, 2), (5, 5))) == "00010000"
    assert held(Count(5, WINDOWS[-1], 2)) == "00011000"
    assert held(Count(5, 2, 2)) == "00001000"
    assert held(Count(VOCAB, WINDOWS[-1], 3)) == "00111001"


def test_a_rule_looks_no_further_than_the_row():
    text, every = Text.of(STREAM, context=3, vocab_size=VOCAB), np.arange(8)
    assert text.at(1, every).tolist() == [VOCAB, 0, 5, VOCAB, 5, 5, VOCAB, 7]
    assert text.count(5, WINDOWS[-1], every).tolist() == [0, 1, 1, 1, 2, 0, 0, 1]


def test_a_tree_predicts_its_leaves():
    root = Split(Among(0, (5,)), Ramp(5, WINDOWS[-1], 2, 0.0, 1.0), Leaf(-2.0))
    rule = Rule(root, SCALE)
    predicted = rule.predict(text_of(STREAM), np.arange(8))
    assert predicted.tolist() == [-2, 0.5, -2, 1, 1, -2, -2, 0.5]
    assert "token in {5}" in rule.words()


def test_seven_bits_say_mean_silence_and_magnitudes_of_both_signs():
    scale = Scale(mean=0.1, spread=2.0, rest=0.0)
    assert scale.nearest(0.02) == 0 and scale.nearest(0.11) == 0.1
    for wanted in (3.0, -7.0, 100.0):
        said = scale.nearest(wanted)
        assert abs(said - wanted) <= (2 ** (1 / 12) - 1) * abs(wanted - 0.1)
