"""One entry of the battery: what was measured, in words, and whether the circuit stands it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal


@dataclass(frozen=True)
class Check:
    """What one control says of a circuit."""

    name: str
    value: float | None
    """None where there is none, or none that is finite: `reason` then says why"""
    unit: Literal["nats", "ratio", "share"]
    says: str
    """the value in a sentence, with what it is to be compared with"""
    passes: bool | None
    """None where the control gives no verdict: `reason` says why"""
    reason: str | None = None
    least: Mapping[str, float] | None = None
    """fewest nodes and fewest bits of the circuits that were found where there is nothing to be
    found; None where the control is none of sizes"""
    points: list[list[float]] | None = None
    """the curve whose highest point the value is: a share and a loss, in nats, for each point"""
    most: float | None = None
    """of a curve: the highest loss that passes"""

    def __post_init__(self) -> None:
        if self.value is not None and not isfinite(self.value):
            raise ValueError(f"check {self.name}: the value is {self.value}; give none, and why")
        if (self.value is None or self.passes is None) and not self.reason:
            raise ValueError(f"check {self.name}: no value or no verdict; a reason is needed")

    def to_json(self) -> dict[str, Any]:
        """As it stands in the circuit's file."""
        return asdict(self)


def missing(name: str, unit: Literal["nats", "ratio", "share"], reason: str) -> Check:
    """A control that could not be made."""
    return Check(name, None, unit, "Not measured.", None, reason)


def of_curve(
    name: str, shares: Sequence[float], losses: Sequence[float], most: float, what: str
) -> Check:
    """The highest of some losses, in nats, over shares of nodes; `what` these nodes do."""
    points = [[x, y] for x, y in zip(shares, losses, strict=True)]
    at, highest = max(points, key=lambda point: point[1])
    says = (
        f"The loss is {highest:.3f} nats at most, with a share of {at:.2g} of {what}, and "
        f"{min(losses):.3f} at least; up to {most:.3f} passes."
    )
    return Check(name, highest, "nats", says, highest <= most, points=points, most=most)
