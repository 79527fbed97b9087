"""Twins that learned nothing: how large a circuit is found in them for the same prompts?"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check
from pellucid.eval.circuits.battery.searched import compared, searched_in
from pellucid.eval.circuits.objective import margins_of
from pellucid.eval.permuted import permuted_weights, rebuilt

if TYPE_CHECKING:
    from pellucid.run import Run

WORDS = {
    "random_twin": "a model with random weights takes",
    "permuted_weights": "the model with its weights permuted takes",
}


def twins_of(run: "Run") -> Mapping[str, Callable[[int], nn.Module]]:
    """The twins of a run: made anew for each number, 0 being the run's own initialization."""
    return {
        "random_twin": lambda number: _thinned(run, number),
        "permuted_weights": lambda number: permuted_weights(run, seed=run.config.seed + number),
    }


@torch.no_grad()
def _thinned(run: "Run", number: int) -> nn.Module:
    """Random initial weights, but 0 where a matrix of the run holds a 0: as sparse as the run."""
    twin, trained = rebuilt(run, run.config.seed + number), dict(run.model.named_parameters())
    for name, parameter in twin.named_parameters():
        if parameter.ndim >= 2:
            parameter.mul_(trained[name] != 0)
    return twin


def twins(case: Case) -> list[Check]:
    """The circuit's size in those of circuits found in each kind of twin."""
    checks = []
    for name, make in case.twins.items():
        empty = [searched_in(case, as_sure(case, make(n)), n) for n in range(case.repeats.twins)]
        checks.append(compared(case, name, WORDS.get(name, f"{name} takes"), empty))
    return checks


@torch.no_grad()
def as_sure(case: Case, twin: nn.Module) -> nn.Module:
    """The twin with the gain of its last norm such that its margins spread like the model's.

    Weights at initialization give margins near 0, by which no search can be guided; the scale of
    margins is free in the loss of a circuit, so that nothing is given away.
    """
    spread = [margins_of(each, case.nodes, case.asked).std() for each in (case.model, twin)]
    if spread[1] > 0:
        for parameter in twin.norm.parameters():
            parameter.mul_(spread[0] / spread[1])
    return twin
