"""Moments of activations for unit-normal pre-activations: what initial scales are made of."""

from collections.abc import Callable
from math import erfc, exp, pi, sqrt
from statistics import NormalDist

import torch
from torch import Tensor


def second_moment(function: Callable[[Tensor], Tensor]) -> float:
    """E[f(z)²] for z ~ N(0, 1), by the trapezoid rule."""
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64, device="cpu")
    density = torch.exp(-(z**2) / 2) / sqrt(2 * pi)
    return float(torch.trapezoid(function(z) ** 2 * density, z))


def tail_second_moment(share: float) -> float:
    """E[z² 1(z > t)] for z ~ N(0, 1), where t leaves the largest `share` of the draws."""
    if share >= 1:
        return 1.0
    t = NormalDist().inv_cdf(1 - share)
    return erfc(t / sqrt(2)) / 2 + t * exp(-t * t / 2) / sqrt(2 * pi)
