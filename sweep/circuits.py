"""Circuits of a grid's cells: which are searched for, and their sizes as scores of a cell."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pellucid.errors import RunError, UserError
from pellucid.settings.kinds import nearest

if TYPE_CHECKING:
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
    """of the table, or `.jsonl` files of pairs"""
    profile: str = "quick"
    target: float = 0.15
    """loss in nats"""
    grain: str = "channels"
    seed: int = 0
    edges: bool = False
    """prune edges, too"""
    controls: bool = True
    """take the battery and the faithful size, which cost several searches each"""

    def check(self) -> None:
        """Raise UserError for what no search accepts, before anything is trained."""
        from pellucid.eval.circuits.battery import repeats_of
        from pellucid.eval.circuits.nodes import Grain
        from pellucid.eval.circuits.settings import settings_of
        from pellucid.eval.tasks import TASKS

        if isinstance(self.tasks, str) or not self.tasks or len(set(self.names)) < len(self.tasks):
            raise UserError(f"circuits.tasks is {self.tasks!r}; different tasks are accepted")
        for task in self.tasks:
            if task.endswith(".jsonl") and not Path(task).is_file():
                raise UserError(f"circuits.tasks: there is no file {task}")
            if not task.endswith(".jsonl") and task not in TASKS:
                raise UserError(f"circuits.tasks: {task!r} is no task{nearest(task, TASKS)}")
        if self.grain not in get_args(Grain):
            raise UserError(
                f"circuits.grain is {self.grain!r}; {', '.join(get_args(Grain))} are accepted"
            )
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
        """A line for a plan: a search's time depends on what the model does, and is not guessed."""
        beside = " with controls" if self.controls else ""
        return (
            f"  and circuits of {len(self.tasks)} tasks a cell{beside} (profile {self.profile}), "
            f"whose time is not counted here"
        )


def taken(run: "Run", circuits: Circuits, split: str) -> "list[Score]":
    """Search a run for circuits, and give their sizes as scores; `split` is that of its others.

    A circuit that lies in the run's folder from the same search is not searched for again.
    """
    from pellucid.eval.circuits.run import Search
    from pellucid.eval.circuits.scores import Task, measured, not_asked, scores

    better = measured(controls=circuits.controls, edges=circuits.edges)
    about = {name: getattr(circuits, name) for name in ("profile", "target", "grain", "seed")}
    about |= {"edges": circuits.edges, "controls": circuits.controls}
    try:
        search = Search(run=run, **about)
    except RunError as refused:
        none = Task(not_asked(str(refused), list(better)))
        return scores(dict.fromkeys(circuits.names, none), better, split)
    both = zip(circuits.names, circuits.tasks, strict=True)
    found = {name: _task(search, name, task, list(better)) for name, task in both}
    return scores(found, better, split)


def _task(search: "Search", name: str, task: str, metrics: list[str]) -> "Task":
    from pellucid.eval.circuits.asking import Unable, asking
    from pellucid.eval.circuits.scores import Task, at_full_size, not_asked, parts_of

    folder, begun = search.run.folder, time.monotonic()
    try:
        asked = asking(search.run, task, drawn=search.settings.drawn, seed=search.seed).unseen
        tokens = asked.tokens_a.numel() + asked.tokens_b.numel()
        written = folder.read_circuits().get(name)
        if not (written and same(written, search)):
            written = search.write(task)
            _note(search, name, time.monotonic() - begun)
    except Unable as reason:
        parts = at_full_size(search.nodes, str(reason), metrics)
        return Task(parts, time.monotonic() - begun, tokens)
    except UserError as reason:
        return Task(not_asked(str(reason), metrics))
    seconds = folder.read_manifest().get(SECONDS, {}).get(name, 0.0)
    return Task(parts_of(written), seconds, tokens)


def same(written: Mapping[str, Any], search: "Search") -> bool:
    """Whether a circuit's file is what this search would write, all that it asks for included.

    One that was forced, of a model that misses the target, is not.
    """
    asked = {name: getattr(search, name) for name in ("profile", "seed", "grain", "target")}
    asked |= {"step": search.run.step, "ablation": "mean"}
    able = (written["losses"]["model"] + written["losses"]["model_unseen"]) / 2 <= search.target
    whole = not search.controls or "faithful" in written
    cut = not search.edges or "pruned_edges" in written or written["censored"]
    held = written.get("frozen_norm", False)
    return (
        able
        and whole
        and cut
        and not held
        and all(written.get(k) == value for k, value in asked.items())
    )


def _note(search: "Search", name: str, seconds: float) -> None:
    folder = search.run.folder
    held = folder.read_manifest().get(SECONDS, {})
    folder.update_manifest(**{SECONDS: held | {name: round(seconds, 3)}})
