"""The scale and shift of margins, fitted on some prompts so that they hold on others."""

from math import expm1, log

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pellucid.eval.circuits.measured import MOST

STEPS = 30
DAMPING = 1e-6
ROUNDING = 8
"""Margins that are this many roundings apart are alike."""
BISECTED = 60


def calibrated(
    margins: Float[Tensor, "copy row"], wants_first: Bool[Tensor, " row"], target: float
) -> Float[Tensor, "copy two"]:
    """Scale and shift of each copy's margins with the least loss against softened labels.

    Labels are ½/(n+1) away from 0 and 1, for n prompts of each kind, as what one has seen n times
    may fail the next time (Krichevsky & Trofimov): where all are answered right the scale stays
    finite, and one mistake on other prompts does not cost it all. They are nearer where this alone
    would miss `target`, in nats; margins that tell the answers apart, and would miss it still, are
    read by what lies between the two kinds. A scale is at most `MOST`, as in the search. One below
    0 would turn the answers around: both are 0 then, and the loss is chance. Newton's steps, halved
    until the loss falls; float64.
    """
    x, middle, size = _standard(margins)
    n = int(wants_first.sum())
    doubt = min(0.5 / (n + 1), -expm1(-target) / 2)
    y = torch.where(wants_first, 1 - doubt, doubt).to(x)
    found = _capped(_fitted(x, y), x, y, MOST * size)
    found = _reaching(found, x, wants_first, target, MOST * size)
    found = torch.where(found[:, :1] > 0, found, 0.0)
    scale = found[:, :1] / size
    return torch.cat([scale, found[:, 1:] - scale * middle], dim=1)


def _standard(margins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Margins around 0 with a spread of 1, and their means and spreads `(copy, 1)`.

    Far from 0 a scale and a shift would do nearly the same, and neither would be found. Margins
    that differ by rounding alone are 0.
    """
    x = margins.detach().double()
    rounding = ROUNDING * torch.finfo(margins.dtype).eps * x.abs().amax(-1, keepdim=True)
    middle = x.mean(-1, keepdim=True)
    size = (x - middle).square().mean(-1, keepdim=True).sqrt()
    differ = size > rounding
    size = torch.where(differ, size, 1.0)
    return (x - middle) / size * differ, middle, size


def _fitted(x: Tensor, y: Tensor) -> Float[Tensor, "copy two"]:
    found = x.new_zeros(len(x), 2)
    for _ in range(STEPS):
        before, found = found, _better(found, _step(found, x, y), x, y)
        if torch.allclose(before, found, rtol=1e-9, atol=1e-12):
            break
    return found


def _capped(found: Tensor, x: Tensor, y: Tensor, most: Tensor) -> Float[Tensor, "copy two"]:
    """Readouts with scales of at most so much, and then at the best shift, by bisection."""
    scale = found[:, :1].minimum(most)
    high = (scale.abs() * x.abs()).amax(-1, keepdim=True) - y.amin().logit()
    low = -high
    for _ in range(BISECTED):
        shift = (low + high) / 2
        above = (scale * x + shift).sigmoid().mean(-1, keepdim=True) > y.mean()
        low, high = torch.where(above, low, shift), torch.where(above, shift, high)
    return torch.where(found[:, :1] > most, torch.cat([scale, shift], dim=1), found)


def _reaching(
    found: Tensor, x: Tensor, wants_first: Tensor, target: float, most: Tensor
) -> Float[Tensor, "copy two"]:
    """Where one value tells the answers apart, a readout by which none loses half the target.

    Only in place of readouts that miss the target.
    """
    low = x[:, wants_first].amin(-1, keepdim=True)
    high = x[:, ~wants_first].amax(-1, keepdim=True)
    scale = (-2 * log(expm1(target / 2)) / (low - high)).minimum(most)
    between = torch.cat([scale, -scale * (low + high) / 2], dim=1)
    right = wants_first.to(x)
    here, there = _loss(found, x, right), _loss(between, x, right)
    better = (low > high)[:, 0] & (here > target) & (there < here)
    return torch.where(better[:, None], between, found)


def applied(
    margins: Float[Tensor, "copy row"], readout: Float[Tensor, "copy two"]
) -> Float[Tensor, "copy row"]:
    """Margins as a readout shows them, float64."""
    return margins.double() * readout[:, :1] + readout[:, 1:]


def _loss(values: Tensor, x: Tensor, y: Tensor) -> Float[Tensor, " copy"]:
    return F.binary_cross_entropy_with_logits(
        applied(x, values), y.expand(x.shape), reduction="none"
    ).mean(-1)


def _step(values: Tensor, x: Tensor, y: Tensor) -> Float[Tensor, "copy two"]:
    """Newton's step, slightly damped: margins that are all alike have no scale."""
    p = applied(x, values).sigmoid()
    features = torch.stack([x, torch.ones_like(x)], dim=-1)
    gradient = ((p - y)[..., None] * features).mean(1)
    curvature = torch.einsum("cr,cri,crj->cij", p * (1 - p), features, features) / x.shape[1]
    damped = curvature + DAMPING * torch.eye(2).to(curvature)
    return -torch.linalg.solve(damped, gradient)


def _better(values: Tensor, step: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """As much of the step as lowers the loss of each copy."""
    here = _loss(values, x, y)
    share = torch.ones(len(x), 1).to(x)
    for _ in range(20):
        worse = _loss(values + share * step, x, y) > here
        if not worse.any():
            break
        share = torch.where(worse[:, None], share / 2, share)
    return torch.where(
        (_loss(values + share * step, x, y) <= here)[:, None], values + share * step, values
    )
