"""Counts of units and labels are those of direct sums, whichever way a site is kept."""

import numpy as np
import pytest

from pellucid.eval.concepts.counts import FIELD, count
from pellucid.eval.harvest import Harvest

TOKENS, UNITS, COLUMNS = 9000, 21, 5


def direct(values: np.ndarray, bars: np.ndarray, columns: np.ndarray, half: np.ndarray):
    """The same by its definition."""
    signs, units, levels = bars.shape
    found = np.zeros((2, signs, levels, units, columns.shape[1]), dtype=int)
    for h in range(2):
        for s in range(signs):
            for i in range(levels):
                fires = (values * (1 - 2 * s) > bars[s, :, i]) & (half == h)[:, None]
                found[h, s, i] = fires.T.astype(int) @ columns.astype(int)
    return found


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("density", [0.05, 0.9])
def test_counts_are_direct_sums(density, signed):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((TOKENS, UNITS)).astype(np.float16).astype(np.float32)
    values[rng.random(values.shape) > density] = 0
    columns = rng.random((TOKENS, COLUMNS)) < 0.4
    half = rng.integers(-1, 2, TOKENS).astype(np.int8)
    bars = np.sort(rng.random((1 + signed, UNITS, 6)) * 2.5, axis=-1).astype(np.float32)
    bars[:, :, 0], bars[0, 5] = 0, np.inf
    kept = Harvest.of(values, signed=signed)
    assert kept.sparse == (density < 0.25)
    np.testing.assert_array_equal(
        count(kept, bars, columns, half), direct(values, bars, columns, half)
    )


@pytest.mark.parametrize("order", [1, -1])
def test_the_first_chunk_decides_nothing_but_speed(order):
    """Units loud in one half of the text and faint in the other, in either order."""
    rng = np.random.default_rng(1)
    loud, faint = rng.uniform(0.2, 1, (5000, 4)), rng.uniform(0, 0.001, (5000, 4))
    values = np.concatenate([loud, faint])[::order].astype(np.float16).astype(np.float32)
    columns, half = rng.random((10000, 3)) < 0.5, (np.arange(10000) // 500 % 2).astype(np.int8)
    bars = np.tile(np.array([0, 0.1, 0.15], dtype=np.float32), (1, 4, 1))
    found = count(Harvest.of(values), bars, columns, half)
    np.testing.assert_array_equal(found, direct(values, bars, columns, half))


def test_two_counts_share_a_float_at_their_largest():
    """Every unit on and every label true on as many tokens as one product sums."""
    n = FIELD - 1
    found = count(
        Harvest.of(np.ones((n, 3), dtype=np.float32)),
        np.zeros((1, 3, 1), dtype=np.float32),
        np.ones((n, 4), dtype=bool),
        np.zeros(n, dtype=np.int8),
    )
    assert (found[0] == n).all() and (found[1] == 0).all()


def test_a_sparse_unit_may_fire_more_often_than_a_shared_float_counts():
    n = 2 * FIELD + 5
    values = np.zeros((n, 6), dtype=np.float32)
    values[:, 2], values[::3, 4] = 1, 0.5
    kept = Harvest.of(values)
    assert kept.sparse
    columns, half = np.ones((n, 3), dtype=bool), np.zeros(n, dtype=np.int8)
    bars = np.zeros((1, 6, 2), dtype=np.float32)
    np.testing.assert_array_equal(
        count(kept, bars, columns, half), direct(values, bars, columns, half)
    )
