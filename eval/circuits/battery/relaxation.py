"""The rest of the model let back in, bit by bit: was the circuit found, or built?

Many ablations at once can cancel each other, so that a small circuit does a task only as long as
all that it left out stays left out. What the model really uses goes on working.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check, of_curve


def relaxation(case: Case) -> list[Check]:
    """The highest point of the loss over the share of other nodes that act again, and halves."""
    shares = torch.logspace(-2, 0, case.repeats.fractions).tolist()
    rng, draws = case.rng("relax"), case.repeats.draws
    curve = []
    for share in shares:
        kept = torch.cat([let_back(case.circuit.kept, share, rng) for _ in range(draws)])
        curve.append(case.losses(kept).mean().item())
    what = "the other nodes acting again"
    return [of_curve("relaxation", shares, curve, case.allowed, what), _halves(case)]


def _halves(case: Case) -> Check:
    losses = case.losses(half_complements(case, case.circuit.kept))
    worst = losses.max().item()
    says = (
        f"With a random half of the other nodes acting again, the loss is {worst:.3f} nats in the "
        f"worst of {len(losses)} halves, {losses.median():.3f} at the median."
    )
    return Check("half_complements", worst, "nats", says, worst <= case.allowed)


def half_complements(case: Case, kept: Bool[Tensor, " node"]) -> Bool[Tensor, "half node"]:
    """A circuit with random halves of the rest: the same halves at every size."""
    rng = case.rng("halves")
    return torch.cat([let_back(kept, 0.5, rng) for _ in range(case.repeats.halves)])


def let_back(
    kept: Bool[Tensor, " node"], share: float, rng: torch.Generator
) -> Bool[Tensor, "one node"]:
    """The circuit with each other node at random, at the given rate."""
    drawn: Float[Tensor, " node"] = torch.rand(len(kept), generator=rng)
    return (kept.cpu() | (drawn < share))[None]
