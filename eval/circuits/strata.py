"""A circuit at other distances than the one it was found at: more tokens between cue and answer."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import UserError
from pellucid.eval.circuits.asking import MEASURED
from pellucid.eval.circuits.content import Found
from pellucid.eval.circuits.objective import Asked, Readout, margins_of
from pellucid.eval.circuits.prune import rows_of
from pellucid.eval.tasks import TASKS, Task, TaskBatch, draw

if TYPE_CHECKING:
    from pellucid.run import Run

PAIRS, AT_ONCE = 32, 8
"""Pairs of each stratum, and how many are read at once: far prompts are long."""


def strata(run: "Run", found: Found) -> dict[str, Any]:
    """The key `strata` of a circuit's file: losses in nats on unseen prompts, by distance.

    A row for distance 0 and for each stratum of the task: `model` as it is and `circuit` at its
    readout; None with a `reason` where prompts are longer than the context. Nothing for a task
    that has no strata, and for the user's own.
    """
    task = TASKS.get(found.asking.name)
    if task is None or not task.distances:
        return {}
    return {"strata": [_row(run, found, task, distance) for distance in (0, *task.distances)]}


def _row(run: "Run", found: Found, task: Task, distance: int) -> dict[str, Any]:
    try:
        batch = _unseen(run, found, task, distance)
    except UserError as error:
        return {"distance": distance, "model": None, "circuit": None, "reason": str(error)}
    asked = Asked.of(batch, found.unseen.tokens.device)
    if found.settings.frozen_norm:
        asked = asked.holding(found.model)
    return {
        "distance": distance,
        "model": _loss(found, asked, None),
        "circuit": _loss(found, asked, found.circuit.kept.to(next(found.model.parameters()))),
        "reason": None,
    }


def _unseen(run: "Run", found: Found, task: Task, distance: int) -> TaskBatch:
    """The prompts that the circuit was measured on, at its own distance; else a few of others."""
    mine = found.asking.unseen
    if distance == mine.distance:
        return mine
    context = run.config.model.context
    about = {"family": MEASURED, "seed": found.seed, "context": context}
    return draw(task, run.tokenizer, PAIRS, distance=distance, **about)


@torch.no_grad()
def _loss(found: Found, asked: Asked, share: Float[Tensor, " node"] | None) -> float:
    """The mean over pairs, a few at a time; the model as it is where there is no share."""
    readout = Readout() if share is None else found.circuit.readout
    n_pairs, total = len(asked) // 2, 0.0
    for pairs in torch.arange(n_pairs).split(AT_ONCE):
        some, base = rows_of(asked, found.base, pairs)
        margins = margins_of(found.model, found.nodes, some, share, base)
        total += float(some.loss(margins, readout)) * len(pairs)
    return total / n_pairs
