"""Cells that a worker trains together, as one batched model; everything else is done one by one."""

import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import Cell


class Stacks:
    """Which cells that are still to be trained go together, until a group is dissolved."""

    def __init__(self, folder: GridFolder, cells: Sequence[Cell], suite: str, size: int):
        untrained = [c for c in cells if folder.state(c.name, suite) in ("missing", "begun")]
        found = groups(untrained, size) if size > 1 else []
        self.folder, self.suite = folder, suite
        self.of = {name: group for group in found for name in group}
        self.begun = 0
        """groups that workers are at"""

    def begin(self, cell: Cell, queue: deque[Cell]) -> list[Cell]:
        """A cell, and those of its group that wait, which leave the queue."""
        group = self.of.get(cell.name, ())
        mates = [other for other in queue if other.name in group]
        for mate in mates:
            queue.remove(mate)
        self.begun += bool(mates)
        return [cell, *mates]

    def alone(self, queue: Iterable[Cell]) -> list[Cell]:
        """Cells that wait, are still to be trained, and go with no others."""
        singles = (cell for cell in queue if cell.name not in self.of)
        states = ("missing", "begun")
        return [c for c in singles if self.folder.state(c.name, self.suite) in states]

    def end(self, cells: Sequence[Cell]) -> None:
        """Note that a worker is done with what `begin` gave it."""
        self.begun -= len(cells) > 1

    def dissolve(self, cells: Iterable[Cell]) -> None:
        """Let what is left to do for these cells be done one by one."""
        for cell in cells:
            self.of.pop(cell.name, None)


def groups(cells: Sequence[Cell], size: int) -> list[tuple[str, ...]]:
    """Names of cells that differ in seed and rates alone, at most `size` together.

    They depend on the cells given, in their order, and on nothing else. Groups of one kind are of
    equal size, or nearly; a cell without a like is in none.
    """
    from pellucid.training.stackable import kind

    alike: dict[str, list[str]] = {}
    for cell in cells:
        if not cell.fit:
            alike.setdefault(kind(cell.config), []).append(cell.name)
    cut = [part for names in alike.values() for part in _even(names, size)]
    return [part for part in cut if len(part) > 1]


def _even(names: Sequence[str], size: int) -> list[tuple[str, ...]]:
    parts = -(-len(names) // size)
    bounds = [len(names) * part // parts for part in range(parts + 1)]
    return [tuple(names[a:b]) for a, b in pairwise(bounds)]


def trained(tasks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Train the cells of some tasks as one batched model, in a worker.

    The answer's `endings` are an exit code and a reason for each; or `refused` says why they are to
    be run one by one, which they can be, whatever happened.
    """
    from pellucid.experiments import run_config
    from pellucid.training.stackable import refusal
    from pellucid.training.together import Member, train_together

    try:
        members = [
            Member(run_config(t["words"]), Path(t["path"]), Path(t["log"]), t["matched"])
            for t in tasks
        ]
        if said := refusal(members[0].config):
            return {"refused": said}
        endings = train_together(members)
        return {"endings": [[ending.code, ending.reason] for ending in endings]}
    except Exception as error:  # noqa: BLE001 - alone, each of them may still come to its end
        traceback.print_exc()
        return {"refused": f"{type(error).__name__}: {error}"[:300]}
