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


def tail_cosine(share: float, d: int) -> float:
    """Mean cosine to a fixed direction of the largest `share` of random directions in d dimensions.

    A cosine's density is proportional to (1 - t²)^((d - 3) / 2); fewer than 3 dimensions count as 3.
    """
    t = torch.linspace(1, -1, 20001, dtype=torch.float64, device="cpu")
    density = (1 - t**2).clamp_min(0) ** ((max(d, 3) - 3) / 2)
    above = (density / density.sum()).cumsum(0)
    kept = density * (above <= share)
    return float((t * kept).sum() / kept.sum())
