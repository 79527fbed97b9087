"""Absorption is high where a narrow label's unit silences the wide one's, and else about 0."""

import numpy as np
from support.concepts import DOCUMENTS, LENGTH, strengths, system

from pellucid.eval.concepts import metrics
from pellucid.eval.concepts.absorption import main_units
from pellucid.eval.concepts.hierarchy import implied
from pellucid.eval.concepts.truth import Truth

N = DOCUMENTS * LENGTH
DOCUMENT = np.repeat(np.arange(DOCUMENTS), LENGTH)


def brackets(seed: int = 0) -> Truth:
    """A wide label, two narrow ones that imply it, and one that has nothing to do with them."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, N // 5).repeat(5)
    wide = (rng.random(N // 5) < 0.4).repeat(5)
    holds = np.stack([wide, wide & (kind == 0), wide & (kind == 1), rng.random(N) < 0.2], axis=1)
    names = ("in_brackets", "in_round", "in_square", "other")
    return Truth(names, holds, np.ones(N, bool), DOCUMENT % 2 == 0, DOCUMENT)


TRUTH = brackets()
PLAIN = strengths(TRUTH.holds)


def absorbing() -> np.ndarray:
    """The wide unit is silent in round brackets, whose own unit speaks instead."""
    values = PLAIN.copy()
    values[TRUTH.holds[:, 1], 0] = 0
    return values


def rate(values: np.ndarray) -> float:
    return metrics.absorption(system(values), TRUTH, seed=0)["site"].value


def test_the_hierarchy_is_read_from_the_labels():
    assert implied(TRUTH) == [(0, 1), (0, 2)]


def test_absorption_is_seen_where_it_is_planted():
    assert rate(PLAIN) == 0
    # One of the two narrow labels absorbs.
    assert rate(absorbing()) == 0.5


def test_units_that_are_silent_at_random_absorb_nothing():
    """They miss as much of the wide label where the narrow one fails as where it holds."""
    rng = np.random.default_rng(0)
    noise = np.where(rng.random(PLAIN.shape) < 0.3, 0, PLAIN)
    noise += (rng.random(PLAIN.shape) < 0.05) * 1.0
    assert abs(rate(noise)) < 0.05


def test_main_units_are_added_while_they_help():
    held = TRUTH.holds[:, 0]
    parts = np.stack([held & (np.arange(N) % 3 == i) for i in range(3)], axis=1)
    assert sorted(main_units(parts, held)) == [0, 1, 2]
    assert list(main_units(np.stack([held, parts[:, 0]], axis=1), held)) == [0]


def test_a_split_label_needs_several_units():
    held = TRUTH.holds[:, 0]
    parts = np.stack([held & (np.arange(N) % 3 == i) for i in range(3)], axis=1)
    split = system(np.concatenate([parts, PLAIN[:, 1:]], axis=1))
    whole = metrics.splitting(system(PLAIN), TRUTH, seed=0)["site"].value
    assert whole == 1 and metrics.splitting(split, TRUTH, seed=0)["site"].value > 1.4
