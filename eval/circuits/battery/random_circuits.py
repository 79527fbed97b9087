"""Circuits of the same size, drawn at random: does the choice of nodes matter?

The flexible test of arXiv 2410.13032: a circuit has to beat most random ones.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check, missing
from pellucid.eval.circuits.nodes import Nodes

BEATEN = 0.95
"""Share of the random circuits that have to be worse."""


def random_circuits(case: Case) -> list[Check]:
    """The share of other circuits, with as many nodes of each group, whose loss is higher."""
    name, rng = "random_circuits", case.rng("random")
    drawn = [alike(case.nodes, case.circuit.kept, rng) for _ in range(case.repeats.random_circuits)]
    other = [kept for kept in drawn if not torch.equal(kept, case.circuit.kept.cpu())]
    if not other:
        return [missing(name, "share", "no other circuit has as many nodes of each group")]
    losses = case.losses(torch.stack([case.circuit.kept.cpu(), *other]))
    mine, theirs = losses[0], losses[1:]
    beaten = ((theirs > mine) + 0.5 * (theirs == mine)).double().mean().item()
    says = (
        f"The circuit's loss is {mine:.3f} nats, that of {len(other)} random circuits of its size "
        f"{theirs.median():.3f} at the median and {theirs.min():.3f} at best."
    )
    return [Check(name, beaten, "share", says, beaten >= BEATEN)]


def alike(nodes: Nodes, kept: Bool[Tensor, " node"], rng: torch.Generator) -> Bool[Tensor, " node"]:
    """A random circuit with as many nodes of each group as another."""
    drawn = torch.zeros(len(nodes), dtype=torch.bool)
    for first, group in nodes.starts():
        count = int(kept[first : first + group.size].sum())
        drawn[first + torch.randperm(group.size, generator=rng)[:count]] = True
    return drawn
