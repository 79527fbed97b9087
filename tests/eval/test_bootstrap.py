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


def covered(n: int, kind: str, draws: int) -> float:
    """Share of simulated texts of n documents whose interval holds the true value.

    Bits of a document grow with its length, and documents differ in how hard they are.
    """
    rng, times = np.random.default_rng(n), 0
    for seed in range(draws):
        length = rng.gamma(2.0, 500, n) if kind == "ratio" else np.ones(n)
        found = bootstrap.ratio(length * rng.normal(2.0, 0.3, n), length, seed=seed)
        times += found.low <= 2.0 <= found.high
    return times / draws


def off(draws: int) -> float:
    """Three binomial standard errors of a rate of 95 %."""
    return 3 * (0.95 * 0.05 / draws) ** 0.5


@pytest.mark.parametrize(("n", "kind"), [(10, "ratio"), (15, "mean"), (60, "ratio")])
def test_intervals_cover_the_truth_at_their_rate(n, kind):
    assert covered(n, kind, 300) == pytest.approx(0.95, abs=off(300))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ratio", "mean"])
@pytest.mark.parametrize("n", [10, 15, 60])
def test_intervals_cover_the_truth_at_their_rate_in_2000_draws(n, kind):
    """Plain percentiles cover 88 to 90 % at n = 10, and documents of one size are no easier."""
    assert covered(n, kind, 2000) == pytest.approx(0.95, abs=off(2000))


def test_what_few_documents_hold_has_no_interval_and_what_none_holds_no_value():
    below = np.zeros(40)
    assert bootstrap.ratio(below, below, seed=0).flags == (
        "no value: none of 40 documents holds any of it",
    )
    below[:3] = 1
    found = bootstrap.ratio(below / 2, below, seed=0)
    assert (found.value, found.low) == (0.5, None)
    below[:20] = 1
    found = bootstrap.ratio(below / 2, below, seed=0)
    assert (found.low, found.high) == (0.5, 0.5)


def test_documents_of_unequal_size_count_as_fewer():
    assert bootstrap.effective(np.ones(12)) == 12
    assert bootstrap.effective(np.array([3.0, 1.0])) == 1.6


def test_few_documents_give_a_reason_instead_of_an_interval():
    found = bootstrap.mean(np.arange(4.0), seed=0)
    assert found.value == 1.5
    assert (found.low, found.high) == (None, None)
    assert found.flags == ("no interval: 4 documents are too few to resample; 10 are needed",)


def test_tails_are_those_of_student():
    # Student's t at 97.5 % with 9 degrees of freedom is 2.2622; Φ(-√(10/9)·2.2622) = 0.00855.
    assert bootstrap.expanded_tail(10) == pytest.approx(0.00855, abs=2e-5)
    assert bootstrap.expanded_tail(10**6) == pytest.approx(0.025, abs=1e-5)
