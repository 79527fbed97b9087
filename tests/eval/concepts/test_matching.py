"""Known latents are recovered by units that are they; seeds agree where units mean the same."""

import numpy as np
import pytest
from support.concepts import plant, rotated, strengths

from pellucid.eval.concepts.matching import COMPARED, recovered, seed_consistency
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue

TRUTH = plant().truth
LATENTS = strengths(TRUTH.holds)
A, B = TRUTH.a, TRUTH.b


def known(units: np.ndarray) -> float:
    latents = TRUTH.holds.astype(np.float32)
    return recovered(units[A], latents[A], units[B], latents[B], seed=0).value


def test_latents_are_recovered_from_themselves_and_not_from_a_rotation():
    assert known(LATENTS[:, ::-1]) > 0.9
    assert known(rotated(LATENTS)) < 0.5
    assert known(np.random.default_rng(0).random(LATENTS.shape)) < 0.1
    assert known(LATENTS[:, :4]) == pytest.approx(4 / 16, abs=0.02), "lost latents count 0"


def consistency(*runs: np.ndarray) -> float:
    ours, *others = (Harvest.of(x.astype(np.float32), signed=True) for x in (LATENTS, *runs))
    return seed_consistency(ours, others, A, B, seed=0).value


def test_seeds_agree_on_permuted_units_and_not_on_rotated_or_random_ones():
    again = strengths(TRUTH.holds, seed=7)[:, ::-1]
    assert consistency(again) > 0.9
    assert consistency(again, rotated(LATENTS)) == pytest.approx(
        (consistency(again) + consistency(rotated(LATENTS))) / 2, abs=0.02
    )
    assert consistency(rotated(LATENTS)) < 0.6
    assert consistency(np.random.default_rng(0).random(LATENTS.shape)) < 0.1


def test_a_larger_run_has_no_advantage():
    """Pairs are chosen on one half and correlated on the other: chance matches do not survive."""
    rng = np.random.default_rng(0)
    few, many = (rng.standard_normal((len(LATENTS), n)) for n in (16, 400))
    assert consistency(many) < consistency(few) + 0.02


def wide(n_units: int, seed: int) -> np.ndarray:
    """Units that have nothing to do with each other, each on at a tenth of the tokens."""
    rng = np.random.default_rng(seed)
    values = rng.random((600, n_units), dtype=np.float32)
    return values * (rng.random((600, n_units)) < 0.1)


def between(ours: np.ndarray, theirs: np.ndarray, **options) -> float:
    ours, theirs = (Harvest.of(x, signed=False) for x in (ours, theirs))
    a, b = np.arange(0, 600, 2), np.arange(1, 600, 2)
    return seed_consistency(ours, [theirs], a, b, seed=0, **options).value


def test_units_of_a_wide_layer_are_all_found_again_in_a_permuted_copy():
    """Width is no handicap: a draw of both would hold a unit and its copy for one in four."""
    units = wide(4 * COMPARED, seed=0)
    order = np.random.default_rng(1).permutation(units.shape[1])
    assert between(units, units[:, order]) == pytest.approx(1, abs=1e-6)
    assert between(units[:, : COMPARED // 4], units[:, order]) == pytest.approx(1, abs=1e-6)
    assert between(units, wide(4 * COMPARED, seed=2)) < 0.1


def test_units_that_nothing_is_left_for_count_nothing():
    units = wide(40, seed=0)
    assert between(units, units[:, :10]) == pytest.approx(10 / 40, abs=0.02)
    assert between(units[:, :10], units) == pytest.approx(1, abs=1e-6)


def test_a_constant_unit_is_no_counterpart():
    """A large constant has no correlation, whatever rounding leaves of its spread."""
    units = wide(8, seed=0)
    constant = np.full((600, 8), 1234.567, dtype=np.float32)
    assert between(units, np.concatenate([constant, units], axis=1)) == pytest.approx(1, abs=1e-6)
    assert between(units, constant) == pytest.approx(0, abs=1e-6)


def test_as_many_are_drawn_as_asked_for():
    ours, theirs = (Harvest.of(wide(20, seed=0)) for _ in range(2))
    places = np.arange(300), np.arange(300, 600)
    assert seed_consistency(ours, [theirs], *places, seed=0, most=12).n == 12
    assert seed_consistency(ours, [theirs, theirs], *places, seed=0).n == 40


def test_other_text_is_refused():
    short = Harvest.of(LATENTS[:100])
    with pytest.raises(NoValue, match="not the same text"):
        seed_consistency(Harvest.of(LATENTS), [short], A, B, seed=0)
