"""Models of one shape as one: their parameters are slices of stacked tensors."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

SLOWER = r"(?s).*(batching rule|non-contiguous, this will lower the performance)"
"""How torch warns of an operation that it runs for one model after the other, or copies for."""


class Many:
    """A function of one model, for many of its shape at once, each with inputs of its own.

    Every model stays a model: its parameters are slices of the stacked ones, and change with them.
    `function` has to look at the first of the models; its place is taken by each in turn.
    """

    def __init__(self, models: Sequence[nn.Module], function: Callable[..., Any]):
        self.models = list(models)
        self.call = _Call(models[0], function)
        owned = [dict(_named(model, "parameters")) for model in models]
        self.weights = _stacked(owned)
        for index, named in enumerate(owned):
            for name, parameter in named.items():
                parameter.data = self.weights[name][index]
        for weight in self.weights.values():
            weight.requires_grad_()

    def __call__(self, *inputs: Any) -> Any:
        """The function of trees of tensors `(model, …)`, with their gradients' graph."""
        # Buffers are few and small, and a layer may replace them after a step.
        buffers = _stacked([dict(_named(model, "buffers")) for model in self.models])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", SLOWER)
            return torch.vmap(self._one)(self.weights, buffers, *inputs)

    def _one(self, weights: dict[str, Tensor], buffers: dict[str, Tensor], *inputs: Any) -> Any:
        return functional_call(self.call, (weights, buffers), inputs)

    def hand_out(self) -> None:
        """Make the stacked gradients those of the models' own parameters."""
        for index, model in enumerate(self.models):
            for name, parameter in _named(model, "parameters"):
                grad = self.weights[name].grad
                parameter.grad = None if grad is None else grad[index]
        for weight in self.weights.values():
            weight.grad = None


class _Call(nn.Module):
    """A function of a model as a module, so that `functional_call` can replace its parameters."""

    def __init__(self, model: nn.Module, function: Callable[..., Any]):
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def _named(model: nn.Module, kind: str) -> Any:
    """A model's parameters or buffers under the names that `_Call` has for them."""
    return getattr(model, f"named_{kind}")(prefix="model")


def _stacked(each: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([own[name].detach() for own in each]) for name in each[0]}
