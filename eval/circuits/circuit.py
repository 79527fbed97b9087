"""A circuit that was found, and what is written of it."""

from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor

from pellucid.eval.circuits.objective import Readout


@dataclass(frozen=True)
class Circuit:
    """Which nodes of a model do a task, all others being held at their bases."""

    task: str
    kept: Bool[Tensor, " node"]
    scores: Float[Tensor, " node"]
    """what nodes were ranked by: a larger circuit takes the next of them"""
    loss: float
    """of the circuit on the pairs it was found on, in nats"""
    target: float
    """the loss that was asked for"""
    readout: Readout = field(default_factory=Readout)

    @property
    def censored(self) -> bool:
        """Whether no circuit reaches the target: it then is the whole model."""
        return self.loss > self.target

    @property
    def size(self) -> int:
        """Nodes that are kept."""
        return int(self.kept.sum())
