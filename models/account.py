"""One function counts parameters and floating-point operations."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from pellucid.models.config import ModelConfig
from pellucid.models.filling import Cost, Filling
from pellucid.models.transformer import Transformer


@dataclass(frozen=True)
class Account:
    """Parameters of a model, and floating-point operations of one token's forward pass.

    `active` parameters take part in one token's computation; `flops_executed` is what our path
    computes, `flops_ideal` what remains if every zero were skipped. A training step costs about
    three forward passes. `gathered` parameters are read for one token alone, row by row.
    """

    total: int
    nonzero: int
    active: int
    flops_executed: float
    flops_ideal: float
    gathered: int


def account(model: Transformer | ModelConfig, vocab_size: int | None = None) -> Account:
    """Count a model, or a config with its vocabulary.

    Of a config the non-zero parameters are those that its constraint leaves at the end.
    """
    if isinstance(model, ModelConfig):
        with torch.device("meta"):
            model = Transformer(model, vocab_size=vocab_size)
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    if parameters[0].is_meta:
        nonzero = total - model.constraint.zeros(model)
    else:
        nonzero = sum(int((p != 0).sum()) for p in parameters)
    cost = _fillings(model) + _rest(model)
    return Account(total, nonzero, cost.active, cost.executed, cost.ideal, cost.gathered)


def _fillings(model: nn.Module) -> Cost:
    """A filling counts what it is made of, so that only the outermost ones are asked."""
    costs = (filling.cost(model.config.context) for filling in _outermost(model))
    return sum(costs, model.head.cost(model.config.context))


def _outermost(module: nn.Module) -> Iterator[Filling]:
    if isinstance(module, Filling):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def _rest(model: Transformer) -> Cost:
    """Embedding (one row), norms and positions (one row)."""
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    rows = model.config.d_model * (1 + sum(1 for _ in model.position.parameters()))
    return Cost(norms + rows, 0.0, 0.0)
