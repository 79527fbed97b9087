"""Bits go where they explain most."""

import numpy as np
from support.planted import random_stream
from support.ruled import VOCAB, text_of

from pellucid.eval.rules.allocate import allocate
from pellucid.eval.rules.fit import Learned
from pellucid.eval.rules.literals import Among
from pellucid.eval.rules.rule import Leaf, Rule, Scale, Split

TEXT = text_of(random_stream(3, 10, vocab_size=VOCAB))
SCALE = Scale(0.0, 1.0, 0.0)


def ruled(tokens: int) -> Rule:
    return Rule(Split(Among(0, tuple(range(tokens))), Leaf(1.0), Leaf(0.0)), SCALE)


def unit(number: int, short: float, long: float) -> Learned:
    """A unit whose short and long rule leave so much error."""
    return Learned(number, {32: ruled(1), 64: ruled(5)}, {32: short, 64: long}, 0.0, 0.1)


def spent(given: dict[int, int], units: list[Learned]) -> float:
    return sum(units[number].rules[budget].bits(TEXT) for number, budget in given.items())


def test_a_unit_that_a_long_rule_explains_gets_it_and_one_that_none_does_gets_none():
    units = [unit(0, 0.9, 0.1), unit(1, 1.0, 1.0), unit(2, 0.2, 0.2)]
    total = ruled(1).bits(TEXT) + ruled(5).bits(TEXT)
    given = allocate(units, dict.fromkeys(range(3), 1.0), TEXT, total)
    assert given == {2: 32, 0: 64} and spent(given, units) <= total


def test_importance_decides_between_equals_and_the_total_holds():
    units = [unit(i, 0.5, 0.3) for i in range(10)]
    weights = {i: float(i) for i in range(10)}
    for total in (0, 30, 100, 250, 10_000):
        given = allocate(units, weights, TEXT, total)
        assert spent(given, units) <= total
    assert set(allocate(units, weights, TEXT, 2.5 * ruled(1).bits(TEXT))) == {8, 9}
    assert 0 not in allocate(units, weights, TEXT, np.inf)
