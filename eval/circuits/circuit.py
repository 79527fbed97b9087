"""A circuit that was found, and what is written of it."""

from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked, Readout


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


@dataclass(frozen=True)
class Placed:
    """A circuit in its model, with the prompts that it is judged on."""

    model: nn.Module
    nodes: Nodes
    circuit: Circuit
    asked: Asked
    base: Base
    """what all other nodes are held at"""

    @property
    def share(self) -> Float[Tensor, " node"]:
        """1 for each node that is kept, else 0, as the model counts."""
        return self.circuit.kept.to(self.asked.tokens.device, next(self.model.parameters()).dtype)
