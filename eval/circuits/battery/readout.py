"""The scale and shift of margins, fitted on some prompts so that they hold on others."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

STEPS = 30
DAMPING = 1e-6


def calibrated(
    margins: Float[Tensor, "copy row"], wants_first: Bool[Tensor, " row"]
) -> Float[Tensor, "copy two"]:
    """Scale and shift of each copy's margins with the least loss against softened labels.

    Labels are ½/(n+1) away from 0 and 1, for n prompts of each kind, as what one has seen n times
    may fail the next time (Krichevsky & Trofimov): where all are answered right the scale stays
    finite, and one mistake on other prompts does not cost it all. A
    scale below 0 would turn the answers around: both are 0 then, and the loss is chance. Newton's
    steps, halved until the loss falls; float64.
    """
    x = margins.detach().double()
    size = x.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-30)
    x = x / size
    n = int(wants_first.sum())
    y = torch.where(wants_first, (n + 0.5) / (n + 1), 0.5 / (n + 1)).to(x)
    found = x.new_zeros(len(x), 2)
    for _ in range(STEPS):
        before, found = found, _better(found, _step(found, x, y), x, y)
        if torch.allclose(before, found, rtol=1e-9, atol=1e-12):
            break
    found = torch.where(found[:, :1] > 0, found, 0.0)
    return torch.cat([found[:, :1] / size, found[:, 1:]], dim=1)


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
