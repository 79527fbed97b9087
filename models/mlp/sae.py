"""A dense MLP whose output passes through a sparse code: the form of a post-hoc autoencoder."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from pellucid.models.activations import Activations
from pellucid.models.filling import Cost, Told
from pellucid.models.mlp.dense import DenseMLP
from pellucid.models.mlp.sparse import SparseMLP
from pellucid.models.mlp.threshold import BatchTopKMLP
from pellucid.models.mlp.topk import TopKMLP
from pellucid.models.units import UnitSite
from pellucid.settings.fields import setting

SPREAD = 0.3
"""Deviation, over tokens, of the mean square of what a dense MLP writes at first, which is 1."""


class AutoencoderMLP(SparseMLP):
    """What autoencoders share: a code, by the rule of the class beside it, of a dense MLP's output.

    Units are the code's; removing one removes exactly what it wrote. They read what the dense MLP
    wrote, so that they have no direction in the layer's input.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SparseMLP.Config):
        """The code's width and k, and the dense MLP before it."""

        activation: Literal["gelu", "relu", "swiglu"] = setting("gelu")
        """Non-linearity of the dense MLP."""
        hidden: int | None = setting(None, low=1)
        """Neurons of the dense MLP; none gives what `mlp=dense` has."""

    def __init__(self, config: Config, d_model: int):
        super().__init__(config, d_model)
        self.dense = DenseMLP.Config(activation=config.activation, width=config.hidden).build(
            d_model
        )
        self.site = UnitSite(
            "mlp",
            self.site.n_units,
            signed=False,
            exactness="unit-ablation-exact",
            takes_rest=True,
            write=lambda: self.w_dec,
        )

    def code(self, y: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        """The code of vectors such as the dense MLP writes."""
        return super().encode(y)

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        return self.code(self.dense(x)[0])

    def initial_std(self) -> dict[str, float]:
        """The dense MLP writes about unit variance, as the code's own input would have."""
        return {"dense.w_out": 1 / self.dense.write_scale()}

    def take_dense(
        self, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor
    ) -> tuple[str, ...]:
        """The dense MLP takes them; the code keeps its initial values."""
        return tuple(f"dense.{name}" for name in self.dense.take_dense(w_in, b_in, w_out, b_out))

    def cost(self, context: int) -> Cost:
        return super().cost(context) + self.dense.cost(context)


class SAEMLP(AutoencoderMLP, TopKMLP):
    """`relu(topk(y W_enc + b_enc)) W_dec + b_dec` of what a dense MLP writes, y (arXiv 2406.04093)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(AutoencoderMLP.Config, TopKMLP.Config):
        """The code as for topk, and the dense MLP before it."""

    def forward(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        return TopKMLP.forward(self, self.dense(x)[0])


class BatchTopKSAEMLP(AutoencoderMLP, BatchTopKMLP):
    """An autoencoder whose units are the k·tokens largest of a batch (arXiv 2412.06410).

    In evaluation they are those above a threshold.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(AutoencoderMLP.Config, BatchTopKMLP.Config):
        """The code as for batch_topk, and the dense MLP before it."""

    def first_threshold(self) -> float:
        """What leaves k units active where half the tokens vary more than the others by `SPREAD`.

        One threshold is for all tokens, and a dense MLP writes more at some than at others.
        """
        share, low, high = min(self.config.k / self.site.n_units, 0.49), 0.0, 10.0
        sizes = [(1 - SPREAD) ** 0.5, (1 + SPREAD) ** 0.5]
        for _ in range(60):
            middle = (low + high) / 2
            above = sum(1 - NormalDist(0, size).cdf(middle) for size in sizes) / len(sizes)
            low, high = (middle, high) if above > share else (low, middle)
        return middle
