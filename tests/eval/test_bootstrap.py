"""Intervals cover the truth at their rate, and are the same for the same seed."""

import numpy as np
import pytest

from pellucid.eval import bootstrap


def test_the_same_seed_gives_the_same_bits():
    rng = np.random.default_rng(0)
    above, below = rng.exponential(1, 40), rng.exponential(1, 40) + 1
    first = bootstrap.ratio(above, below, seed=3)
    assert first == bootstrap.ratio(above, below, seed=3)
    assert first[1:3] != bootstrap.ratio(above, below, seed=4)[1:3]
    assert first.value == above.sum() / below.sum()
    assert first.low < first.value < first.high
    assert first.n == 40


@pytest.mark.parametrize("n", [15, 60])
def test_intervals_cover_the_truth_at_their_rate(n):
    """Bits of a document grow with its length, and documents differ in how hard they are."""
    rng, covered, draws = np.random.default_rng(n), 0, 400
    for seed in range(draws):
        length = rng.gamma(2.0, 500, n)
        bits = length * rng.normal(2.0, 0.3, n)
        found = bootstrap.ratio(bits, length, seed=seed)
        covered += found.low <= 2.0 <= found.high
    # Binomial error of 400 draws is 1.1 %; plain percentiles cover 90 % of the time at n = 15.
    assert 0.92 <= covered / draws <= 0.975


def test_few_documents_give_a_reason_instead_of_an_interval():
    found = bootstrap.mean(np.arange(4.0), seed=0)
    assert found.value == 1.5
    assert (found.low, found.high) == (None, None)
    assert found.flags == ("no interval: 4 documents are too few to resample; 10 are needed",)


def test_tails_are_those_of_student():
    # Student's t at 97.5 % with 9 degrees of freedom is 2.2622; Φ(-√(10/9)·2.2622) = 0.00855.
    assert bootstrap.expanded_tail(10) == pytest.approx(0.00855, abs=2e-5)
    assert bootstrap.expanded_tail(10**6) == pytest.approx(0.025, abs=1e-5)
