"""Frozen norms: does the circuit live on what it does to the scale of the norms?"""

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check


def frozen_norm(case: Case) -> list[Check]:
    """The circuit's loss with every norm at the scale that it has in the whole model."""
    loss, free = case.losses(case.kept, held=True).item(), case.losses(case.kept).item()
    says = (
        f"With every norm at the scale of the whole model the loss is {loss:.3f} nats; with norms "
        f"that follow the circuit {free:.3f}."
    )
    return [Check("frozen_norm", loss, "nats", says, loss <= case.allowed)]
