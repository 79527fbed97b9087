"""The prompts of a circuit's search, and others that it never sees."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import UserError
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked, margins_of
from pellucid.eval.circuits.settings import CHANCE
from pellucid.eval.tasks import (
    DISTANCES,
    TASKS,
    Pair,
    TaskBatch,
    draw,
    encode,
    find_task,
    load_pairs,
    pack,
)

if TYPE_CHECKING:
    from pellucid.run import Run

UNSEEN = 64
"""Pairs that a circuit is measured on afterwards."""
SEARCHED, MEASURED = "loop", "dev"
"""Families of prompts: they share neither templates nor names."""
TRIED, FEWEST = 4, 8
"""Draws for each fresh pair, and how few of them say nothing."""
OTHERS = 2**63
"""Seeds of fresh pairs begin here: no search has one of them."""


class Unable(UserError):
    """A task that the whole model cannot do; `accuracy` is how often it is right all the same."""

    def __init__(self, message: str, accuracy: float | None = None):
        super().__init__(message)
        self.accuracy = accuracy


class Asking(NamedTuple):
    """A task as two batches of pairs."""

    name: str
    cue: str
    """what decides the answer, in words"""
    searched: TaskBatch
    unseen: TaskBatch

    @property
    def fingerprint(self) -> str:
        """Of all pairs as texts: files of one name may hold others."""
        pairs = repr((self.searched.pairs, self.unseen.pairs))
        return hashlib.sha256(pairs.encode()).hexdigest()[:16]


def asking(run: "Run", task: str, *, drawn: int, seed: int, distance: int = 0) -> Asking:
    """The pairs of a task of the table, or of the user's own file, whose name ends in `.jsonl`.

    UserError where there is no such task, or none at such a distance, where the tokenizer cannot
    tell its answers apart, and where a prompt is longer than the context.
    """
    check_distance(distance)
    context = run.config.model.context
    if task.endswith(".jsonl"):
        if distance:
            raise UserError(f"task file {task} has no distance {distance}: its pairs are as given")
        return _own(run, Path(task), drawn, context)
    if task not in TASKS:
        raise UserError(
            f"task {task!r} is unknown: all, a file of pairs (.jsonl), {', '.join(TASKS)} "
            "are accepted"
        )
    found = find_task(task)
    if distance and distance not in found.distances:
        raise UserError(
            f"task {task!r} has no distance {distance}: too few of its templates have room between "
            "cue and answer; 0 is accepted"
        )
    about = {"distance": distance, "seed": seed, "context": context}
    searched, unseen = (
        draw(found, run.tokenizer, n, family=family, **about)
        for n, family in ((drawn, SEARCHED), (UNSEEN, MEASURED))
    )
    return Asking(task, found.cue, searched, unseen)


def fresh_pairs(run: "Run", asked: Asking, *, seed: int) -> TaskBatch | str:
    """Pairs of the family that is measured on, none of whose prompts was asked; or why none are.

    They are as many as the unseen ones, or fewer where a task has few prompts.
    """
    if asked.name not in TASKS:
        return "all pairs of a file of one's own are asked"
    about = {"family": MEASURED, "seed": OTHERS + seed, "context": run.config.model.context}
    about["distance"] = asked.unseen.distance
    try:
        drawn = draw(find_task(asked.name), run.tokenizer, TRIED * UNSEEN, **about)
    except UserError as error:
        return str(error)
    known = {p for both in asked[2:] for pair in both.pairs for p in (pair.prompt_a, pair.prompt_b)}
    rows: list[int] = []
    for row, pair in enumerate(drawn.pairs):
        if known.isdisjoint({pair.prompt_a, pair.prompt_b}):
            known |= {pair.prompt_a, pair.prompt_b}
            rows.append(row)
    if len(rows) < FEWEST:
        return f"of {len(drawn)} pairs drawn anew {len(rows)} had prompts that were not asked"
    return drawn.subset(torch.tensor(rows[:UNSEEN]))


def check_distance(distance: int) -> None:
    """UserError for a distance that no task has."""
    if distance not in (0, *DISTANCES):
        raise UserError(
            f"distance {distance} is not accepted: 0, {', '.join(map(str, DISTANCES))} tokens "
            "between cue and answer are"
        )


def own_pairs(file: Path) -> list[Pair]:
    """The pairs of the user's own file; UserError for what no search accepts under any tokenizer."""
    if file.stem in TASKS:
        raise UserError(
            f"task file {file} has the name of a task of the table, {file.stem}: give it another"
        )
    for ending, what in ((".graph", "an attribution graph"), (".contexts", "a circuit's contexts")):
        if file.stem.endswith(ending):
            raise UserError(f"task file {file} has the name of {what}: give it another")
    if re.search(r"(@\d+|\.step\d+)$", file.stem):
        raise UserError(
            f"task file {file} has the name of a task at a distance or a step: give it another"
        )
    pairs = load_pairs(file)
    if len(pairs) < 2:
        raise UserError(
            f"task file {file} holds one pair: two or more are accepted, of which every second "
            "one is kept from the search"
        )
    return pairs


def _own(run: "Run", file: Path, drawn: int, context: int) -> Asking:
    """Every second pair of a file is kept from the search."""
    pairs = own_pairs(file)

    def packed(some: Sequence[Pair]) -> TaskBatch:
        for pair in some:
            if isinstance(reason := encode(pair, run.tokenizer.encode), str):
                raise UserError(f"task file {file}: answers cannot be told apart: {reason}")
        return pack(some, run.tokenizer, name=file.stem, context=context)

    cue = f"what differs between the prompts of {file.name}"
    return Asking(file.stem, cue, packed(pairs[::2][:drawn]), packed(pairs[1::2][:UNSEEN]))


def accuracy(asked: Asked, margins: Float[Tensor, " row"]) -> float:
    """Share of prompts after which the right answer is the likelier one; ties count half.

    One answer against all others: share of pairs in which it is likelier after its own prompt.
    """
    if bool((asked.second < 0).any()):
        own, other = margins.view(2, -1)
        return float((0.5 + 0.5 * (own - other).sign()).mean())
    right = torch.where(asked.wants_first, margins, -margins)
    return float((0.5 + 0.5 * right.sign()).mean())


@torch.no_grad()
def check_able(
    model: nn.Module, nodes: Nodes, name: str, both: tuple[Asked, Asked], target: float
) -> None:
    """Raise Unable where the whole model misses the target: the gate that `--force` opens."""
    margins = [margins_of(model, nodes, asked) for asked in both]
    losses = [float(asked.loss(each)) for asked, each in zip(both, margins, strict=True)]
    right = [accuracy(asked, each) for asked, each in zip(both, margins, strict=True)]
    loss = sum(losses) / 2
    if loss <= target:
        return
    higher = f"give a --target of at least {loss + 0.005:.2f}, or " if loss < CHANCE - 0.02 else ""
    raise Unable(
        f"task {name!r}: the model's own loss is {loss:.2f} nats, at an accuracy of "
        f"{sum(right) / 2:.2f}, and the target {target:g}: no part is asked to do what the whole "
        f"cannot; {higher or 'give '}--force to search all the same",
        sum(right) / 2,
    )
