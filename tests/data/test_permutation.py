import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.permutation import permute, round_keys


@settings(max_examples=150, deadline=None)
@given(n=st.integers(1, 3000), seed=st.integers(), epoch=st.integers(0, 2**40))
def test_every_index_is_reached_exactly_once(n, seed, epoch):
    image = permute(np.arange(n), n, round_keys(seed, epoch))
    assert np.array_equal(np.sort(image), np.arange(n))


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 2**45), seed=st.integers(), data=st.data())
def test_an_index_alone_goes_where_it_goes_in_company(n, seed, data):
    index = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)))
    keys = round_keys(seed)
    together = permute(index, n, keys)
    alone = np.concatenate([permute(index[i : i + 1], n, keys) for i in range(len(index))])
    assert np.array_equal(together, alone)
    assert (together >= 0).all() and (together < n).all()


def test_the_permutation_does_not_change_between_versions():
    image = permute(np.arange(11), 11, round_keys("rows", 0, 0))
    assert image.tolist() == GOLDEN_ELEVEN


GOLDEN_ELEVEN = [5, 4, 10, 6, 7, 0, 9, 3, 1, 8, 2]


@pytest.mark.parametrize("n", [2, 3, 5, 24, 100])
def test_places_are_uniform_over_seeds(n):
    seeds = 2000
    first = np.array([permute(np.array([0]), n, round_keys(seed))[0] for seed in range(seeds)])
    counts = np.bincount(first, minlength=n)
    chi_square = ((counts - seeds / n) ** 2 / (seeds / n)).sum()
    # Mean n-1 and variance 2(n-1) under uniformity; five standard deviations.
    assert chi_square < n - 1 + 5 * np.sqrt(2 * (n - 1))


def test_neighbors_are_not_kept_together():
    n = 5000
    image = permute(np.arange(n), n, round_keys(7))
    assert abs(np.corrcoef(np.arange(n), image)[0, 1]) < 0.05
    assert (np.abs(np.diff(image)) == 1).sum() < 20
