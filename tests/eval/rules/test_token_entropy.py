"""Token entropy: detectors of tokens score high, noise of any density 0, units of states low."""

import numpy as np
import pytest
from support.planted import Planted, before, random_stream

from pellucid.eval.reader import Reader
from pellucid.eval.rules.token_entropy import concentration, entropy, token_entropies
from pellucid.eval.workbench import Workbench

VOCAB = 17
TEXT = np.arange(16_000) % 16


def test_entropy_is_in_bits_and_counts_kinds():
    assert entropy(np.array([3, 3, 3])) == 0
    assert entropy(np.array([1, 2, 1, 2])) == pytest.approx(1)
    assert entropy(np.array([0, 0, 1, 2])) == pytest.approx(1.5)


def test_a_detector_of_one_token_has_all_and_of_two_a_quarter_less():
    """Of 16 equally frequent tokens, 4 bits: one of two leaves 1 of them."""
    assert concentration(TEXT, np.flatnonzero(TEXT == 5), seed=[0]) == 1
    two = concentration(TEXT, np.flatnonzero(TEXT < 2), seed=[0])
    assert two == pytest.approx(0.75, abs=2e-3)
    assert concentration(TEXT, np.arange(16_000), seed=[0]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("fires", [12, 30, 200, 8000])
def test_a_unit_that_fires_at_random_has_nothing_however_rare(fires):
    """Without a match in density the rare ones would score: they meet few kinds of token."""
    dice = np.random.default_rng(fires)
    found = []
    for unit in range(40):
        places = dice.choice(16_000, fires, replace=False)
        found.append(concentration(TEXT, places, seed=[unit]))
    assert np.mean(found) == pytest.approx(0, abs=0.02)
    unmatched = 1 - entropy(TEXT[places]) / entropy(TEXT)
    assert fires > 30 or unmatched > 0.05


def test_too_few_firings_and_a_text_of_one_token_say_nothing():
    assert concentration(TEXT, np.arange(9), seed=[0]) is None
    assert concentration(np.zeros(100, dtype=int), np.arange(50), seed=[0]) is None


def test_planted_units_are_told_apart():
    stream = random_stream(20, 100, vocab_size=VOCAB)
    of_token = [lambda t, i=i: t == i for i in range(1, 9)]
    of_state = [lambda t, i=i: before(t) == i for i in range(1, 9)]
    readers = [Reader(Planted(r, vocab_size=VOCAB), stream, 50) for r in (of_token, of_state)]
    bench = Workbench(*readers, train=stream.tokens, vocab_size=VOCAB, split="val", seed=0)
    (score,) = token_entropies(bench)
    assert (score.value, score.better) == (1.0, "higher")
    assert score.controls["random_twin"] == pytest.approx(0, abs=0.03)
    assert "8 of 8 units fire on 10 tokens or more" in score.flags
