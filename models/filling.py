"""What every filling of a slot offers: a fast path, a split path through its site, its accounts."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.models.activations import Activations
from pellucid.models.inherit import take_rows
from pellucid.models.units import UnitSite
from pellucid.settings.fields import Config, Configurable

Told = dict[str, Tensor]
"""What a pass tells the trainer: `loss/…` is added to the loss, `sum/…` and `mean/…` are reduced
over micro-batches and ranks and handed back to the filling's `after_step`. `sum/overflow` counts what
a limit of capacity left out, and marks the run."""


@dataclass(frozen=True)
class Cost:
    """Forward cost of one layer for one token: parameters in use and floating-point operations.

    `executed` is what our path really computes, `ideal` what remains if every zero were skipped.
    `gathered` counts the parameters that are read for this token alone, row by row, which no matrix
    product shares with other tokens.
    """

    active: int
    executed: float
    ideal: float
    gathered: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other))))


@dataclass(frozen=True)
class Rule:
    """How one parameter is trained where it is not trained as all others are.

    `lr` multiplies the learning rate; `decay` replaces the weight decay, None keeps it; `clip`
    limits the norm of this parameter's gradient by itself, before the whole gradient is tamed.
    """

    lr: float = 1.0
    decay: float | None = None
    clip: float | None = None


class Filling(Configurable, nn.Module):
    """A layer type. `forward` may be fused; `split` runs encode → site → decode with equal results.

    `more_sites` shows further sites beside `site`, by name: `blocks.0.mlp.<name>`. `split` passes
    through all of them. `places` are the inner vectors that it hands to `sparsify(place, x)`, which
    the block sets from the model's `site_sparsity`.
    """

    site: UnitSite
    places: tuple[str, ...] = ()
    more_sites: Mapping[str, UnitSite] = MappingProxyType({})
    causal_in_training = True
    rows_of_units: tuple[str, ...] | None = None
    """Parameters whose rows are one unit's each and nobody else's; None stands for the filling's
    own parameters with as many rows as there are units."""

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

    @staticmethod
    def sparsify(place: str, x: Tensor) -> Tensor:
        """What of an inner vector may pass; replaced by the block that the filling is part of."""
        return x

    def initial_std(self) -> Mapping[str, float]:
        """Standard deviations of parameters that `initialize` does not know by name."""
        return {}

    def rules(self) -> Mapping[str, Rule]:
        """Parameters, by name, that are trained by a rule of their own."""
        return {}

    def borrow(self, shared: nn.ModuleDict) -> None:
        """Take what several layers share from the model's store, or put it there first.

        Keep it in a tuple: a module that is an attribute would be the layer's own as well.
        """

    def remark(self) -> str:
        """What to say of the layer once, when a run starts; nothing by default."""
        return ""

    def take_dense(
        self, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor
    ) -> tuple[str, ...]:
        """Start from a dense MLP's weights, matrices `(width, d_model)`; the parameters set.

        An empty answer means that the layer cannot, and was left as it is. By default it can where
        it has such matrices itself, under one of their names, and as many rows or more.
        """
        return take_rows(self, w_in, b_in, w_out, b_out)

    def before_step(self, progress: float) -> None:
        """Set what changes over training, from the share of it that is done (0 to 1)."""

    def after_step(self, told: Told, tokens: int) -> None:
        """Update running statistics from the step's reduced `told`; called by the trainer."""


def under_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's dtype where it is on: custom ops are not on its lists."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(tensor.to(dtype) for tensor in tensors)


__all__ = ["Config", "Cost", "Filling", "Rule", "Told", "under_autocast"]
