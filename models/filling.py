"""What every filling of a slot offers: a fast path, a split path through its site, its accounts."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.models.activations import Activations
from pellucid.models.units import UnitSite
from pellucid.settings.fields import Config, Configurable

Told = dict[str, Tensor]
"""What a pass tells the trainer: `loss/…` is added to the loss, `sum/…` and `mean/…` are reduced
over micro-batches and ranks and handed back to the filling's `after_step`."""


@dataclass(frozen=True)
class Cost:
    """Forward cost of one layer for one token: parameters in use and floating-point operations.

    `executed` is what our path really computes, `ideal` what remains if every zero were skipped.
    """

    active: int
    executed: float
    ideal: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.active + other.active, self.executed + other.executed, self.ideal + other.ideal
        )


class Filling(Configurable, nn.Module):
    """A layer type. `forward` may be fused; `split` runs encode → site → decode with equal results."""

    site: UnitSite
    causal_in_training = True

    @abstractmethod
    def encode(self, x: Tensor, *context: Any) -> tuple[Activations, Told]:
        """The units' activations for the normalized input `x (batch, token, d_model)`."""

    @abstractmethod
    def decode(self, acts: Activations, *context: Any) -> Tensor:
        """What the units write: `(batch, token, d_model)`."""

    def forward(self, x: Tensor, *context: Any) -> tuple[Tensor, Told]:
        acts, told = self.encode(x, *context)
        return self.decode(acts, *context), told

    def split(self, x: Tensor, *context: Any) -> tuple[Tensor, Told]:
        """The path used while the site is recorded or edited."""
        acts, told = self.encode(x, *context)
        return self.decode(self.site(acts), *context), told

    @abstractmethod
    def cost(self, context: int) -> Cost:
        """Cost per token at a context of so many tokens."""

    @abstractmethod
    def write_scale(self) -> float:
        """Root of the expected squared sum that a write weight of variance 1 would produce.

        Initial write weights are divided by it (active fan-in), so that every filling starts with
        the same output size whatever its width and sparsity.
        """

    def after_step(self, told: Told, tokens: int) -> None:
        """Update running statistics from the step's reduced `told`; called by the trainer."""


def under_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's dtype where it is on: custom ops are not on its lists."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(tensor.to(dtype) for tensor in tensors)


__all__ = ["Config", "Cost", "Filling", "Told", "under_autocast"]
