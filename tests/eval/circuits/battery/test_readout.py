"""The scale and shift of margins."""

import math

import pytest
import torch
from scipy.optimize import minimize

from pellucid.eval.circuits.battery.readout import applied, calibrated
from pellucid.eval.circuits.measured import MOST

ROWS = 40
TARGET = 0.15


@pytest.fixture
def wants():
    return torch.arange(ROWS) < ROWS // 2


def noisy(seed, wants, gap=1.0):
    draws = torch.randn(ROWS, generator=torch.Generator().manual_seed(seed)).double()
    return draws + torch.where(wants, gap, -gap) + 3.0


def loss(values, margins, wants):
    seen = torch.as_tensor(values[0]) * margins + values[1]
    n = len(wants) // 2
    y = torch.where(wants, (n + 0.5) / (n + 1), 0.5 / (n + 1))
    return -(y * seen.sigmoid().log() + (1 - y) * (-seen).sigmoid().log()).mean().item()


@pytest.mark.parametrize("size", [0.7, 1.0, 300.0])
def test_it_is_the_best_of_all(wants, size):
    margins = torch.stack([size * noisy(seed, wants) for seed in range(3)])
    for row, found in zip(margins / size, calibrated(margins, wants, TARGET), strict=True):
        found[0] *= size
        best = minimize(lambda v, row=row: loss(v, row, wants), [1.0, 0.0], tol=1e-10)
        assert loss(found.tolist(), row, wants) == pytest.approx(best.fun, abs=1e-9)
        assert found.tolist() == pytest.approx(best.x.tolist(), rel=1e-3)


def test_answers_are_never_turned_around(wants):
    margins = torch.stack([-noisy(0, wants, 3.0), noisy(0, wants, 3.0)])
    turned, right = calibrated(margins, wants, TARGET)
    assert torch.equal(turned, torch.zeros(2).double()) and right[0] > 0.5


def test_margins_without_a_mistake_keep_a_finite_scale(wants):
    margins = torch.where(wants, 1.0, -1.0)[None].double()
    scale, shift = calibrated(margins, wants, TARGET)[0].tolist()
    # All are 1 from 0: the best probability is that of the softened label.
    assert 1 / (1 + torch.tensor(-scale).exp()) == pytest.approx(20.5 / 21, abs=1e-6)
    assert shift == pytest.approx(0, abs=1e-6)


def read(margins, wants, target=TARGET):
    """The loss at the readout, as controls take it, and the scale."""
    readout = calibrated(margins, wants, target)
    seen = applied(margins, readout)[0]
    return torch.where(wants, -seen, seen).exp().log1p().mean().item(), readout[0, 0].item()


@pytest.mark.parametrize("target", [0.01, 0.05, 0.15, 0.6])
@pytest.mark.parametrize("pairs", [1, 2, 4, 32])
def test_a_perfect_model_reaches_any_target(target, pairs):
    wants = torch.arange(2 * pairs) < pairs
    found, scale = read(torch.where(wants, 5.0, -5.0)[None].double(), wants, target)
    doubt = min(0.5 / (pairs + 1), (1 - math.exp(-target)) / 2)
    assert found == pytest.approx(-math.log(1 - doubt), abs=1e-6) and found < target
    assert scale == pytest.approx(math.log(1 / doubt - 1) / 5, rel=1e-4)


@pytest.mark.parametrize("target", [0.001, 0.01, 0.15])
def test_margins_far_from_each_other_that_tell_all_apart_reach_the_target(wants, target):
    """Softened labels alone would hold the scale down for the sake of the largest."""
    margins = torch.where(wants, 2.0, -2.0) * torch.where(torch.arange(ROWS) % 5 > 0, 1.0, 500.0)
    found, scale = read(margins[None].double() + 3.0, wants, target)
    # Those next to the other kind lose half the target; four fifths of all are there.
    assert found == pytest.approx(0.8 * target / 2, rel=1e-6)
    assert scale == pytest.approx(-math.log(math.expm1(target / 2)) / 2, rel=1e-6)


def test_margins_far_from_zero_are_read_as_those_around_it(wants):
    spread = torch.where(wants, 2.0, -2.0)[None].double() * torch.linspace(0.9, 1.1, ROWS)
    near, far = calibrated(spread, wants, TARGET), calibrated(spread + 2000.0, wants, TARGET)
    assert far[0, 0].item() == pytest.approx(near[0, 0].item(), rel=1e-6)
    assert torch.allclose(
        applied(spread, near), applied(spread + 2000.0, far), rtol=1e-6, atol=1e-6
    )
    assert read(spread + 2000.0, wants)[0] < 0.03


@pytest.mark.parametrize("middle", [0.0, 20.0])
def test_no_scale_is_above_that_of_the_search(wants, middle):
    """Else what is hardly ever sure would be read as if it were the model."""
    margins = torch.where(wants, 0.02, -0.02)[None].double() + middle
    found, scale = read(margins, wants)
    assert scale == MOST and found == pytest.approx(math.log1p(math.exp(-0.08)), abs=1e-9)
    # Of unlike margins at that scale, the shift is the best.
    uneven = torch.where(wants, 0.4, -0.1)[None].double() * torch.linspace(0.5, 1.5, ROWS) + middle
    scale, shift = calibrated(uneven, wants, TARGET)[0].tolist()
    assert scale == MOST
    best = minimize(lambda v: loss([MOST, v[0]], uneven[0], wants), [-MOST * middle], tol=1e-12)
    assert shift == pytest.approx(best.x[0], abs=1e-4)


def test_rounding_is_no_answer(wants):
    """Margins that differ in their last digit only, by the answer."""
    value = torch.tensor(1e4)
    margins = torch.where(wants, torch.nextafter(value, value + 1), value)[None]
    assert applied(margins, calibrated(margins, wants, TARGET)).abs().max() < 1e-6


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_margins_all_alike_are_chance(wants, value):
    margins = torch.full((1, ROWS), value).double()
    shown = applied(margins, calibrated(margins, wants, TARGET))
    assert shown.abs().max() < 1e-3
