"""Fillings of the `site_sparsity` slot: which channels of a block's inner vectors survive."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from pellucid.kernels import keep_topk
from pellucid.settings import fields
from pellucid.settings.fields import Configurable, setting

Place = Literal["attn_in", "q", "k", "v", "attn_out", "mlp_in", "mlp_neuron", "mlp_out"]
"""Inputs and outputs of both halves, queries, keys and values over all heads, hidden neurons."""

PLACES: tuple[Place, ...] = Place.__args__


class NoSparsity(Configurable):
    """Every channel passes."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        """Nothing to set."""

        @property
        def where(self) -> tuple[Place, ...]:
            return ()

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, place: str, x: Tensor) -> Tensor:
        """`x (batch, token, channel)` as it may pass at this place."""
        return x


class AbsTopK(NoSparsity):
    """Per token, the share of channels largest in magnitude passes (arXiv 2511.13653 §2).

    Exactly that many; among equals the lowest channel. Gradients reach those that passed.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(NoSparsity.Config):
        # The rate of its paper: at a common one, 300 steps of `tiny` stay above the bigram table.
        recipe: ClassVar[tuple[str, ...]] = ("train.lr=0.0128",)

        share: float = setting(0.25, above=0.0, high=1.0)
        """Share of the channels that pass."""
        places: tuple[Place, ...] = setting(PLACES)
        """Where; all eight of the paper by default."""

        @property
        def where(self) -> tuple[Place, ...]:
            return self.places

    def __call__(self, place: str, x: Tensor) -> Tensor:
        if place not in self.config.places:
            return x
        return largest(x, max(1, int(self.config.share * x.shape[-1])), signed=True)


def largest(x: Tensor, k: int, *, signed: bool) -> Tensor:
    """`x (…, channel)` with all but the k largest entries (by magnitude if `signed`) set to 0."""
    if k >= x.shape[-1]:
        return x
    return keep_topk(x.flatten(0, -2), k, signed=signed).view_as(x)


SPARSITIES = {"none": NoSparsity, "abs_topk": AbsTopK}
