"""Circuits of a grid's cells: which are searched for, and their sizes as scores of a cell."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pellucid.errors import RunError, UserError
from pellucid.settings.kinds import MAX_INT, nearest

if TYPE_CHECKING:
    from pellucid.eval.circuits.asking import Asking
    from pellucid.eval.circuits.run import Search
    from pellucid.eval.circuits.scores import Task
    from pellucid.eval.score import Score
    from pellucid.run import Run

SECONDS = "circuit_seconds"
"""Field of a run's manifest: what each of its circuits took."""


@dataclass(frozen=True)
class Circuits:
    """The circuits that every finished cell of a grid is searched for; all cells alike.

    What they take becomes scores of the cell (`eval/circuits/scores.py`), and may be an endpoint:
    `circuit_faithful_log2_bits`, the geometric mean over tasks.
    """

    tasks: Sequence[str]
    """of the table, one at a distance as `var_if@32`, or `.jsonl` files of pairs"""
    profile: str = "quick"
    target: float = 0.15
    """loss in nats"""
    grain: str = "channels"
    seed: int = 0
    frozen_norm: bool = False
    edges: bool = False
    """prune edges, and count them in four ways"""
    controls: bool = True
    """take the battery and the faithful size, which cost several searches each"""

    def check(self) -> None:
        """Raise UserError for what no search accepts, before anything is trained."""
        from pellucid.eval.circuits.battery import repeats_of
        from pellucid.eval.circuits.nodes import Grain
        from pellucid.eval.circuits.settings import settings_of

        if isinstance(self.tasks, str) or not self.tasks or len(set(self.names)) < len(self.tasks):
            raise UserError(f"circuits.tasks is {self.tasks!r}; different tasks are accepted")
        for task in self.tasks:
            _check(task)
        if self.grain not in get_args(Grain):
            raise UserError(
                f"circuits.grain is {self.grain!r}; {', '.join(get_args(Grain))} are accepted"
            )
        if type(self.seed) is not int or not 0 <= self.seed <= MAX_INT:
            raise UserError(f"circuits.seed is {self.seed!r}; 0 to 2**63 - 1 are accepted")
        settings_of(self.profile, self.target), repeats_of(self.profile)

    @property
    def names(self) -> list[str]:
        """Of the tasks, as in the names of files and scores."""
        return [Path(task).stem if task.endswith(".jsonl") else task for task in self.tasks]

    @property
    def metrics(self) -> list[str]:
        """What every cell is given."""
        from pellucid.eval.circuits.scores import measured

        return list(measured(controls=self.controls, edges=self.edges))

    def described(self) -> dict[str, Any]:
        """As JSON gives it back; what a file of pairs holds is part of it."""
        from pellucid.data.store import file_sha256

        own = {task: file_sha256(Path(task)) for task in self.tasks if task.endswith(".jsonl")}
        return asdict(self) | {"tasks": list(self.tasks), "files": own}

    @property
    def cost(self) -> str:
        """A line for a plan: a search's time depends on what the model does as well as its size."""
        beside = " with controls" if self.controls else ""
        return (
            f"  with circuits of {len(self.tasks)} tasks a cell{beside} (profile {self.profile}); until "
            f"some were found, their time is a guess from the model's size"
        )


def taken(run: "Run", circuits: Circuits, split: str) -> "list[Score]":
    """Search a run for circuits, and give their sizes as scores; `split` is that of its others.

    A circuit that lies in the run's folder from the same search is not searched for again.
    """
    from pellucid.eval.circuits.run import Search
    from pellucid.eval.circuits.scores import Task, measured, not_asked, scores

    better = measured(controls=circuits.controls, edges=circuits.edges)
    about = {field: value for field, value in vars(circuits).items() if field != "tasks"}
    try:
        search = Search(run=run, **about)
    except RunError as refused:
        none = Task(not_asked(str(refused), list(better)))
        return scores(dict.fromkeys(circuits.names, none), better, split)
    both = zip(circuits.names, circuits.tasks, strict=True)
    return scores({n: _task(search, n, t, list(better)) for n, t in both}, better, split)


def _task(search: "Search", name: str, task: str, metrics: list[str]) -> "Task":
    from pellucid.eval.circuits.asking import Unable, asking, own_pairs
    from pellucid.eval.circuits.scores import Task, at_full_size, not_asked, parts_of

    if task.endswith(".jsonl"):
        own_pairs(Path(task))  # a file that went away says nothing of the run: the cell fails
    task, distance = _at(task)
    # What searches of one distance share (nodes, means over text) is taken once.
    search = search if distance == search.distance else replace(search, distance=distance)
    folder = search.run.folder
    about = {"drawn": search.settings.drawn, "seed": search.seed, "distance": distance}
    try:
        asked, nodes = asking(search.run, task, **about), search.nodes
    except UserError as reason:
        return Task(not_asked(str(reason), metrics))
    tokens = asked.unseen.tokens_a.numel() + asked.unseen.tokens_b.numel()
    begun = time.monotonic()
    written = folder.read_circuits().get(name)
    try:
        if not (written and same(written, search, asked)):
            written = search.write(task)
            _note(search, name, time.monotonic() - begun)
    except Unable as reason:
        parts = at_full_size(nodes, str(reason), metrics, reason.accuracy, _whole(search, asked))
        return Task(parts, time.monotonic() - begun, tokens)
    seconds = folder.read_manifest().get(SECONDS, {}).get(name, 0.0)
    return Task(parts_of(written), seconds, tokens)


def _whole(search: "Search", asked: "Asking") -> dict[str, Any] | None:
    """The edges of all nodes, where edges are asked for."""
    from pellucid.eval.circuits.objective import Asked
    from pellucid.eval.circuits.whole import counted

    if not search.edges:
        return None
    model = search.run.model
    return counted(model, search.nodes, Asked.of(asked.searched, next(model.parameters()).device))


def _check(task: str) -> None:
    """UserError for a task that no run can be asked."""
    from pellucid.eval.circuits.asking import own_pairs
    from pellucid.eval.tasks import TASKS

    if task.endswith(".jsonl"):
        if not Path(task).is_file():
            raise UserError(f"circuits.tasks: there is no file {task}")
        own_pairs(Path(task))
        return
    name, distance = _at(task)
    if name not in TASKS:
        raise UserError(f"circuits.tasks: {task!r} is no task{nearest(name, TASKS)}")
    if distance and distance not in TASKS[name].distances:
        accepted = ", ".join(f"{name}@{d}" for d in TASKS[name].distances) or name
        raise UserError(f"circuits.tasks: {task!r} is no task; {accepted} is accepted")


def _at(task: str) -> tuple[str, int]:
    """A task and its distance, which is written in one way alone: files have the task's name."""
    found = re.fullmatch(r"(.+)@([1-9][0-9]*)", task)
    return (found[1], int(found[2])) if found else (task, 0)


ASKED = ("profile", "target", "grain", "distance", "seed", "frozen_norm")
"""Settings of a search that a circuit's file holds."""


def same(written: Mapping[str, Any], search: "Search", asked: "Asking") -> bool:
    """Whether a circuit's file is what this search would write, all that it asks for included.

    One that was forced, of a model that misses the target, is not.
    """
    about = {"step": search.run.step, "prompts": asked.fingerprint}
    about |= {name: getattr(search, name) for name in ASKED}
    losses = written["losses"]
    able = (losses["model"] + losses["model_unseen"]) / 2 <= search.target
    proven = not search.controls or "faithful" in written
    pruned = not search.edges or "pruned_edges" in written["sizes"]
    equal = all(written.get(name) == value for name, value in about.items())
    return able and proven and pruned and equal


def _note(search: "Search", name: str, seconds: float) -> None:
    folder = search.run.folder
    held = folder.read_manifest().get(SECONDS, {})
    folder.update_manifest(**{SECONDS: held | {name: round(seconds, 3)}})
