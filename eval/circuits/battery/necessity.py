"""The circuit taken out: can the model do without it?"""

import torch

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check, missing
from pellucid.eval.circuits.battery.random_circuits import alike

LEAST = 0.5
"""Share of what the model can do that has to be lost."""
DRAWN = 8
"""Random circuits that are taken out for comparison."""


def necessity(case: Case) -> list[Check]:
    """How much of the task is lost with the circuit alone at its means, and with random circuits.

    (L(M∖C) − L(M)) / (L(∅) − L(M)) for losses of the model, of it without the circuit and without
    all nodes.
    """
    name, rng = "necessity", case.rng("without")
    kept = case.circuit.kept.cpu()
    drawn = [alike(case.nodes, kept, rng) for _ in range(DRAWN)]
    none = torch.zeros_like(kept)
    losses = case.losses(torch.stack([~none, none, ~kept, *(~each for each in drawn)]))
    model, empty = losses[:2].tolist()
    if empty - model < case.target:
        reason = f"without any node the loss is {empty:.3f} nats, with all of them {model:.3f}"
        return [missing(name, "share", reason)]
    # Added to, a rounded −0 is 0.
    lost = ((losses[2:] - model) / (empty - model)).double().round(decimals=6).add(0.0).tolist()
    says = (
        f"Without the circuit the loss goes from {model:.3f} to {losses[2]:.3f} nats: {lost[0]:.0%} "
        f"of what all nodes are worth. Random circuits of its size are worth "
        f"{sum(lost[1:]) / len(drawn):.0%}."
    )
    return [Check(name, lost[0], "share", says, lost[0] >= LEAST)]
