"""Intervals cover the truth at their rate, and are the same for the same seed."""

from functools import partial

import numpy as np
import pytest

from pellucid.eval import bootstrap
from pellucid.eval.bootstrap import Interval
from pellucid.eval.causal.ablation import RESOLUTION
from pellucid.eval.causal.resampled import over_documents
from pellucid.eval.causal.targeted_ablation import _selectivity


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


def selectivity(
    rng: np.random.Generator, n: int, seed: int, *, unspecific: float = 0.06
) -> tuple[Interval, float]:
    """Damage to ten labels, and to the tokens around them; all of a document rises and falls."""
    here, elsewhere = np.linspace(0.05, 0.5, 10), np.linspace(0.4, 1.6, 10) * unspecific
    length = np.ceil(rng.gamma(2.0, 100, n))[:, None]
    held = rng.binomial(length.astype(int), np.linspace(0.02, 0.2, 10))
    hard = rng.gamma(4.0, 0.25, (n, 1))
    noise = lambda tokens: rng.normal(0, 0.5, tokens.shape) * np.sqrt(tokens)
    rest = length - held
    sums = [held * here * hard + noise(held), held, rest * elsewhere * hard + noise(rest), rest]
    drawn, weights = np.stack(sums, axis=-1), length[:, 0]
    found = over_documents(drawn, _selectivity, seed=seed, weights=weights)
    return found, here.sum() / np.maximum(elsewhere, RESOLUTION).sum()


def logit_share(rng: np.random.Generator, n: int, seed: int) -> tuple[Interval, float]:
    """Squared logits grow with a document's length, and the part past the units differs."""
    length = rng.gamma(2.0, 100, n)
    total = length * rng.gamma(4.0, 0.25, n)
    sums = np.stack([total * rng.beta(3.6, 6.4, n), total], axis=1)
    share = lambda drawn: 1 - np.sqrt(drawn[:, 0] / drawn[:, 1])
    return over_documents(sums, share, seed=seed, weights=length), 0.4


def explained(rng: np.random.Generator, n: int, seed: int) -> tuple[Interval, float]:
    """What ablation costs differs between documents, and is below 0 for some."""
    length = rng.gamma(2.0, 100, n)
    lost = length * rng.normal(0.5, 0.3, n)
    kept = lost * rng.normal(0.6, 0.2, n) + length * rng.normal(0, 0.05, n)
    return bootstrap.ratio(kept, lost, seed=seed), 0.6


def below_and_above(family, n: int, draws: int) -> tuple[float, float]:
    """Shares of simulated texts whose whole interval is below the truth, and above it."""
    rng, below, above = np.random.default_rng(n), 0, 0
    for seed in range(draws):
        found, truth = family(rng, n, seed)
        below, above = below + (found.high < truth), above + (found.low > truth)
    return below / draws, above / draws


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "n"),
    [
        *((family, n) for family in (selectivity, logit_share) for n in (16, 32)),
        *((explained, n) for n in (30, 100)),
    ],
)
def test_other_statistics_are_covered_in_2000_draws(family, n):
    """As many documents as their text has. What is too wide, as selectivity's of 16, is no claim."""
    assert sum(below_and_above(family, n, 2000)) < 0.05 + off(2000)


@pytest.mark.slow
def test_selectivity_is_understated_where_other_tokens_do_not_change():
    """What is noise there counts as damage: the interval may be too low, and is not too high."""
    inert = partial(selectivity, unspecific=0.0)
    below, above = below_and_above(inert, 16, 600)
    assert below > 0.1 and above < 0.025


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
