"""Streamed moments and histograms against numpy on all activations at once."""

import numpy as np
import pytest
import torch
from support.planted import as_sparse

from pellucid.eval.moments import BINS, Moments, bin_of, edge
from pellucid.models import Activations

SHARES = (0.2, 0.8, 0.99)


def dense(values) -> Activations:
    return Activations(torch.as_tensor(values), None, values.shape[-1])


def streamed(values, form, chunks=3) -> Moments:
    moments = Moments(values.shape[-1])
    for part in torch.as_tensor(values).chunk(chunks):
        moments.add(form(part))
    return moments


def some_values(units=70):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 50, units)).astype(np.float32) * np.logspace(-3, 2, units)
    values[..., 1] = rng.exponential(size=(6, 50)) ** 3
    return values.astype(np.float32)


def direct_kurtosis(values):
    x = values.reshape(-1, values.shape[-1]).astype(np.float64)
    off = x - x.mean(0)
    return (off**4).mean(0) / (off**2).mean(0) ** 2


@pytest.mark.parametrize("chunks", [1, 2, 6])
def test_dense_moments_are_those_of_all_values(chunks):
    values = some_values()
    moments = streamed(values, dense, chunks)
    flat = values.reshape(300, -1).astype(np.float64)
    np.testing.assert_allclose(moments.mean, flat.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(moments.m2 / 300, flat.var(0), rtol=1e-9)
    np.testing.assert_allclose(moments.kurtosis, direct_kurtosis(values), rtol=1e-9)
    np.testing.assert_array_equal(moments.largest, np.abs(values.reshape(300, -1)).max(0))


@pytest.mark.parametrize("chunks", [1, 2, 6])
def test_sparse_moments_count_the_silent_tokens(chunks):
    values = some_values(units=9) * (np.random.default_rng(1).random((6, 50, 9)) < 0.15)
    a, b = streamed(values, as_sparse, chunks), streamed(values, dense, chunks)
    np.testing.assert_allclose(a.kurtosis, direct_kurtosis(values), rtol=1e-9)
    np.testing.assert_allclose(a.kurtosis, b.kurtosis, rtol=1e-9)
    np.testing.assert_array_equal(a.histogram, b.histogram)
    np.testing.assert_array_equal(a.largest, b.largest)
    np.testing.assert_array_equal(a.peaks, b.peaks)
    at = np.array(a.typical)
    assert (values.reshape(300, 9)[at, np.arange(9)][at >= 0] != 0).all()
    assert ((at < 0) == (np.array(a.peaks) < 0)).all()


def test_moments_survive_a_mean_far_from_zero():
    """Sums of powers would leave nothing: 1e4⁴ is 1e16, the fourth moment 1e-4."""
    rng = np.random.default_rng(2)
    values = (1e4 + np.round(rng.normal(size=(8, 100, 1)) * 64) / 1024).astype(np.float32)
    moments = streamed(values, dense, 8)
    np.testing.assert_allclose(moments.kurtosis, direct_kurtosis(values), rtol=1e-6)


def test_constant_and_silent_units_have_no_kurtosis():
    values = np.stack([np.full((2, 9), 3.0), np.zeros((2, 9))], axis=-1).astype(np.float32)
    assert np.isnan(streamed(values, dense, 2).kurtosis).all()


def test_kurtosis_of_a_rare_unit_is_one_over_its_density():
    # A unit that is 1 with probability p has kurtosis (1 - 3p(1-p)) / (p(1-p)).
    values = np.zeros((10, 100, 1), dtype=np.float32)
    values[3, :5] = 1
    p = 0.005
    expected = (1 - 3 * p * (1 - p)) / (p * (1 - p))
    assert streamed(values, as_sparse, 5).kurtosis[0] == pytest.approx(expected)


def test_quantiles_are_those_of_the_active_tokens():
    rng = np.random.default_rng(3)
    values = rng.gamma(2.0, 3.0, size=(40, 500, 3)).astype(np.float32)
    values *= rng.random(values.shape) < 0.1
    moments = streamed(values, as_sparse)
    found = moments.quantiles(SHARES, np.arange(3), moments.threshold(signed=False))
    for unit in range(3):
        active = values[..., unit][values[..., unit] > 0]
        np.testing.assert_allclose(found[unit], np.quantile(active, SHARES), rtol=0.03)


def test_quantiles_of_a_constant_strength_are_that_strength():
    values = np.zeros((2, 20, 2), dtype=np.float32)
    values[0, :, 0] = 1.0
    moments = streamed(values, as_sparse)
    np.testing.assert_array_equal(moments.quantiles(SHARES, np.arange(1), np.zeros(1)), 1)


def test_dense_signed_units_are_active_above_a_tenth_of_their_peak():
    rng = np.random.default_rng(4)
    values = torch.nn.functional.gelu(torch.from_numpy(rng.normal(size=(9, 50, 5)))).float().numpy()
    moments = streamed(values, dense)
    peak = np.abs(values).max((0, 1))
    threshold = moments.threshold(signed=True)
    assert (threshold <= peak / 10).all()
    assert (threshold > peak / 10 * 0.96).all()
    np.testing.assert_array_equal(moments.threshold(signed=False), 0)
    sparse = streamed(values, as_sparse)
    np.testing.assert_array_equal(sparse.threshold(signed=True), 0)
    # The histogram is cut exactly where the threshold says.
    counted = (moments.histogram * (np.arange(BINS) >= bin_of(threshold)[:, None])).sum(1)
    np.testing.assert_array_equal(counted, (np.abs(values) >= threshold).sum((0, 1)))


def test_bins_hold_what_their_edges_say():
    values = np.float32(2.0) ** np.linspace(-13.9, 13.9, 4000).astype(np.float32)
    place = bin_of(values)
    assert (edge(place) <= values).all()
    assert (values < edge(place + 1)).all()
    assert (edge(place + 1) / np.maximum(edge(place), 2.0**-14) <= 33 / 32).all()
    assert bin_of(np.float32(1e-30)) == 0
    assert bin_of(np.float32(1e30)) == BINS - 1


def test_peaks_are_positions_in_the_stream():
    values = np.zeros((4, 10, 3), dtype=np.float32)
    values[0, 7, 0], values[0, 2, 0], values[3, 1, 0], values[2, 9, 1] = 5, 4, -1, 2
    peaks = np.array(streamed(values, dense, 4).peaks)
    np.testing.assert_array_equal(peaks[:, 0], [7, -1, -1, 31])
    np.testing.assert_array_equal(peaks[:, 1], [-1, -1, 29, -1])
    np.testing.assert_array_equal(peaks[:, 2], [-1, -1, -1, -1])
