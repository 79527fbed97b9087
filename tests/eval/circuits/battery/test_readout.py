"""The scale and shift of margins."""

import pytest
import torch
from scipy.optimize import minimize

from pellucid.eval.circuits.battery.readout import applied, calibrated

ROWS = 40


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


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_it_is_the_best_of_all(wants, size):
    margins = torch.stack([size * noisy(seed, wants) for seed in range(3)])
    for row, found in zip(margins / size, calibrated(margins, wants), strict=True):
        found[0] *= size
        best = minimize(lambda v, row=row: loss(v, row, wants), [1.0, 0.0], tol=1e-10)
        assert loss(found.tolist(), row, wants) == pytest.approx(best.fun, abs=1e-9)
        assert found.tolist() == pytest.approx(best.x.tolist(), rel=1e-3)


def test_answers_are_never_turned_around(wants):
    margins = torch.stack([-noisy(0, wants, 3.0), noisy(0, wants, 3.0)])
    turned, right = calibrated(margins, wants)
    assert torch.equal(turned, torch.zeros(2).double()) and right[0] > 0.5


def test_margins_without_a_mistake_keep_a_finite_scale(wants):
    margins = torch.where(wants, 1.0, -1.0)[None].double()
    scale, shift = calibrated(margins, wants)[0].tolist()
    # All are 1 from 0: the best probability is that of the softened label.
    assert 1 / (1 + torch.tensor(-scale).exp()) == pytest.approx(20.5 / 21, abs=1e-6)
    assert shift == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_margins_all_alike_are_chance(wants, value):
    margins = torch.full((1, ROWS), value).double()
    shown = applied(margins, calibrated(margins, wants))
    assert shown.abs().max() < 1e-3
