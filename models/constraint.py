"""Fillings of the `constraint` slot: what weights must satisfy after every step of training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.kernels import weight_topk_
from pellucid.settings import fields
from pellucid.settings.fields import Configurable, setting


class NoConstraint(Configurable):
    """Weights are free."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        """Nothing to set."""

    def __init__(self, config: Config):
        self.config = config

    def check(self, model: nn.Module) -> None:
        """Raise ConfigError for a model that cannot satisfy the constraint."""

    def density_at(self, progress: float) -> float:
        """Share of each matrix that may differ from 0 when this share of the training is done."""
        return 1.0

    def zeros(self, model: nn.Module) -> int:
        """Parameters that are 0 once the training is done."""
        return 0

    def project(self, model: nn.Module, progress: float) -> None:
        """Make the weights satisfy the constraint, in place; every process must call it."""


class WeightTopK(NoConstraint):
    """Of every matrix only the largest weights stay (weight-sparse transformers, 2511.13653).

    After each step all but max(⌊density · n⌋, guarded) entries of each matrix are set to 0; among
    equals the first stay. The density falls linearly from 1. Gradients and moments stay dense, so
    that weights may come back. Embeddings count as matrices; vectors and a bigram table are free.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(NoConstraint.Config):
        recipe: ClassVar[tuple[str, ...]] = (
            "train.eps=0.1",
            "train.gradient=rms",
            "train.schedule=sharkfin",
            "train.lr=0.0128",
            "train.warmup=0.01",
        )

        density: float = setting(0.25, above=0.0, high=1.0)
        """Share of each matrix that stays in the end."""
        begin: float = setting(0.01, low=0.0, high=1.0)
        """Share of the training after which the density starts to fall."""
        end: float = setting(0.5, low=0.0, high=1.0)
        """Share of the training after which it has reached its value."""
        per_neuron: int = setting(1, low=0)
        """Largest weights of each neuron or channel that stay whatever their size."""

        def check(self) -> None:
            if self.end < self.begin:
                raise ConfigError(f"end is {self.end}; at least begin, {self.begin}, is accepted")

    def check(self, model: nn.Module) -> None:
        for name, matrix in _matrices(model):
            guards = _guards(name, matrix, self.config.per_neuron)
            lines = max((matrix.shape[i] * guards[i] for i in (0, 1)), default=0)
            if self.config.density * matrix.numel() < lines:
                raise ConfigError(
                    f"constraint.density is {self.config.density}, which keeps "
                    f"{int(self.config.density * matrix.numel())} weights of {name}; "
                    f"constraint.per_neuron = {self.config.per_neuron} asks for {lines}: "
                    f"a density of at least {lines / matrix.numel():.3g} is accepted"
                )

    def density_at(self, progress: float) -> float:
        begin, end = self.config.begin, self.config.end
        if progress >= end:
            return self.config.density
        done = max(0.0, progress - begin) / (end - begin)
        return 1 + done * (self.config.density - 1)

    def zeros(self, model: nn.Module) -> int:
        matrices = [matrix for _, matrix in _matrices(model)]
        return sum(m.numel() - int(self.config.density * m.numel()) for m in matrices)

    @torch.no_grad()
    def project(self, model: nn.Module, progress: float) -> None:
        density = self.density_at(progress)
        named = list(_matrices(model))
        if density >= 1 or not named:
            return
        guards = [_guards(name, matrix, self.config.per_neuron) for name, matrix in named]
        per_row, per_column = map(list, zip(*guards, strict=True))
        matrices = [matrix for _, matrix in named]
        weight_topk_(matrices, density, per_row=per_row, per_column=per_column)


def _matrices(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights that are projected, each once, under the name it has first."""
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and not name.endswith("bigram"):
            yield name, parameter


def _guards(name: str, matrix: Tensor, per_neuron: int) -> tuple[int, int]:
    """Guarded weights of each row and of each column: of what is a neuron or channel there.

    Rows are units in every matrix but the one that attention writes with, whose columns are
    channels. Rows of embeddings are tokens, and stacks of small matrices have no rows to guard.
    """
    if matrix.ndim > 2 or name.startswith(("embedding.", "position.", "head.weight")):
        return 0, 0
    return (0, per_neuron) if name.endswith("w_o") else (per_neuron, 0)


CONSTRAINTS = {"none": NoConstraint, "weight_topk": WeightTopK}
