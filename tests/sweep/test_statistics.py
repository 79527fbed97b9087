"""Intervals hold what they promise at few seeds, on simulated grids with a known effect."""

import math

import numpy as np
import pytest

from pellucid.sweep.statistics import (
    crossed,
    effect,
    equivalence_p,
    holm,
    holm_of_pairs,
    paired,
    t_quantile,
    t_upper,
)

# Two-sided 95 % quantiles and upper tails of Student's t, from printed tables.
QUANTILES = {1: 12.7062, 2: 4.3027, 4: 2.7764, 7: 2.3646, 30: 2.0423, 1000: 1.9623}


@pytest.mark.parametrize("df", QUANTILES)
def test_quantiles_are_those_of_the_tables(df):
    assert t_quantile(0.975, df) == pytest.approx(QUANTILES[df], abs=6e-5)
    assert t_upper(QUANTILES[df], df) == pytest.approx(0.025, abs=3e-6)
    assert t_upper(0.0, df) == 0.5


def test_tails_of_one_and_two_degrees_are_their_closed_forms():
    for t in (0.1, 1.0, 3.0, 50.0):
        assert t_upper(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, abs=1e-13)
        assert t_upper(t, 2) == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)), abs=1e-13)


def test_an_effect_is_worked_out_by_hand():
    found = effect([1.0, 2.0, 3.0])
    assert found.value == 2.0
    assert found.high - found.value == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert found.p == pytest.approx(2 * t_upper(2 * math.sqrt(3), 2))
    assert found.flags == ("exploratory: 3 seeds; a headline needs 5",)
    assert effect([1.0] * 5).flags == ("all differences are equal",)


def test_effects_are_paired_by_seed():
    found = paired({0: 1.0, 1: 5.0, 2: 9.0}, {2: 8.0, 1: 4.0, 7: 0.0})
    assert (found.value, found.low, found.high, found.n) == (1.0, 1.0, 1.0, 2)
    assert paired({0: 1.0}, {1: 1.0}).flags == ("no seed in common",)
    assert effect([1.0]).low is None


def simulate(seeds: int, grids: int, shift: float, rng) -> np.ndarray:
    """Differences by grid and seed; what the seed does to both arms cancels."""
    common = rng.normal(0, 5.0, (grids, seeds))
    arm = common + shift + rng.normal(0, 1.0, (grids, seeds))
    return arm - (common + rng.normal(0, 1.0, (grids, seeds)))


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_a_planted_effect_lies_within_its_interval_as_often_as_stated(seeds):
    rng = np.random.default_rng(seeds)
    grids = simulate(seeds, 2000, 0.7, rng)
    # Student's pivot is exact here: the simulation errs by at most 1.5 %.
    held = [e.low <= 0.7 <= e.high for e in map(effect, grids)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("arms", [2, 6])
def test_false_claims_are_held_to_five_percent_of_all_grids(arms):
    rng = np.random.default_rng(arms)
    wrong = 0
    for _ in range(2000):
        p = [effect(d).p for d in simulate(5, arms, 0.0, rng)]
        wrong += min(holm(p)) < 0.05
    assert wrong / 2000 <= 0.05 + 0.012  # 2.5 standard errors of 2,000 grids


def test_a_bootstrap_over_three_seeds_would_have_been_too_narrow():
    """Why it is Student's t: the harness can tell the two apart."""
    rng = np.random.default_rng(0)
    held = 0
    for values in simulate(3, 500, 0.7, rng):
        means = rng.choice(values, (200, 3)).mean(1)
        held += np.quantile(means, 0.025) <= 0.7 <= np.quantile(means, 0.975)
    assert held / 500 < 0.85


def test_holm_is_worked_out_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_pairs_of_exclusive_hypotheses_are_adjusted_by_hand():
    # 0.001 and 0.01 while three comparisons are left, 0.02 ends one, 0.2 another, 0.3 stays above.
    pairs = [(0.01, 0.2), (0.3, 0.001), (0.02, None), (None, None)]
    wanted = [(0.03, 0.4), (0.4, 0.003), (0.06, None), (None, None)]
    for found, pair in zip(holm_of_pairs(pairs), wanted, strict=True):
        assert found == pytest.approx(pair)
    assert holm_of_pairs([(0.9, 0.8), (0.7, 0.02)]) == [(1.0, 1.0), (1.0, 0.04)]
    p = [0.01, 0.04, 0.03]
    assert holm_of_pairs([(value, None) for value in p]) == [(value, None) for value in holm(p)]


def test_one_family_of_differences_and_equalities_holds_where_two_do_not():
    """Of one half of the comparisons no difference is true, of the other one of the margin."""
    rng, false, apart = np.random.default_rng(3), 0, 0
    for _ in range(2000):
        true = rng.uniform(size=6)
        pairs = [(p, 0.0) if i % 2 else (0.0, p) for i, p in enumerate(true)]
        together = holm_of_pairs(pairs)
        false += min(pair[i % 2 == 0] for i, pair in enumerate(together)) < 0.05
        families = [holm(list(family)) for family in zip(*pairs, strict=True)]
        apart += min(families[i % 2 == 0][i] for i in range(6)) < 0.05
    assert false / 2000 <= 0.05 + 0.012
    assert apart / 2000 > 0.08


def test_no_difference_is_claimed_within_a_declared_margin_alone():
    rng = np.random.default_rng(1)
    null = rng.normal(0, 0.01, 8)
    assert equivalence_p(null, 0.1) < 0.001
    assert equivalence_p(null + 1.0, 0.1) > 0.999
    assert equivalence_p(rng.normal(0, 1.0, 8), 0.1) > 0.3
    assert equivalence_p([0.0, 0.0], 0.1) == 0 and equivalence_p([0.2, 0.2], 0.1) == 1
    assert equivalence_p([0.0], 0.1) is None
    with pytest.raises(ValueError, match="margin is 0"):
        equivalence_p(null, 0)


def test_a_margin_that_ends_where_the_interval_does_is_at_the_level():
    differences = [0.01, 0.03, -0.02, 0.04, 0.02]
    inner = effect(differences, level=0.9)
    assert equivalence_p(differences, inner.high) == pytest.approx(0.05)


def test_equivalence_is_claimed_wrongly_at_most_five_percent_of_the_time():
    """At the edge of the margin the claim is wrong, and its rate is the level's."""
    rng = np.random.default_rng(2)
    claims = [equivalence_p(d, 3.0) < 0.05 for d in simulate(5, 2000, 3.0, rng)]
    assert np.mean(claims) <= 0.05 + 0.012


def test_a_crossed_mean_is_worked_out_by_hand():
    # Mean squares: seeds 8 (1 free), tasks 3 (2 free), rest 0.
    found = crossed([[1.0, 2.0, 0.0], [3.3333333, 4.3333333, 2.3333333]])
    seeds, tasks = 3 * 2 * (7 / 6) ** 2, 2 * 2 / 2
    assert found.value == pytest.approx(13 / 6) and found.n == 2
    df = (seeds + tasks) ** 2 / (seeds**2 / 1 + tasks**2 / 2)
    reach = t_quantile(0.975, df) * math.sqrt((seeds + tasks) / 6)
    assert found.high - found.value == pytest.approx(reach, rel=1e-5)
    assert found.p == pytest.approx(
        2 * t_upper(13 / 6 / math.sqrt((seeds + tasks) / 6), df), rel=1e-5
    )


def test_of_one_task_a_crossed_mean_is_that_over_seeds():
    assert crossed([[1.0], [2.0], [4.0]]) == effect([1.0, 2.0, 4.0])
    assert crossed([[1.0, 3.0]]) == effect([2.0])
    assert crossed([[1.0, 1.0]] * 5).low == 1.0 and crossed([]).value is None
    with pytest.raises(ValueError, match="inhomogeneous"):
        crossed([[1.0, 2.0], [1.0]])


@pytest.mark.parametrize("spread", [(0.5, 0.5, 0.5), (0.0, 0.5, 0.5), (0.2, 1.0, 0.2), (0, 0, 1)])
def test_an_interval_over_seeds_and_tasks_holds_for_other_tasks(spread):
    rng, times = np.random.default_rng(7), 300
    held = alone = 0
    for _ in range(times):
        of_seeds, of_tasks, rest = (
            scale * rng.normal(size=size)
            for scale, size in zip(spread, ((5, 1), (1, 8), (5, 8)), strict=True)
        )
        table = of_seeds + of_tasks + rest
        held += abs((found := crossed(table)).value) <= found.high - found.value
        over = effect(table.mean(1))
        alone += abs(over.value) <= over.high - over.value
    assert held / times >= 0.925
    # Over seeds alone it would be about these tasks and no others.
    assert spread[1] <= spread[0] or alone / times < 0.75
