"""A bounded call of the runner: which cells it begins, and when it stops.

A cell is begun where its training and its scoring are expected to fit into what is left of the
call. One that is longer than a whole call is begun with any worker that has nothing shorter to do,
is saved at the bound, and goes on in the next call.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence

from pellucid.settings.summary import device_of, measured_rate, spelled
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import Cell
from pellucid.sweep.table import flops

RESERVE, LONGEST_RESERVE = 0.1, 60.0
"""Share of a call that is kept for saving and leaving, and its most in seconds."""
WORTH = 0.2
"""Share of a call that must be left for a cell to be begun which does not fit."""
OPTIMISM = 3.0
"""How much longer training may take than its matrix products, before anything was measured."""
SCORING = 15.0
"""Seconds of scoring, before anything was measured."""


class Pace:
    """Expected seconds of cells: from those that are done, else from a matrix product here."""

    def __init__(self, folder: GridFolder, cells: Sequence[Cell], suite: str):
        self.folder, self.cells, self.suite = folder, list(cells), suite
        self.guess: float | None = None
        self.trained: dict[str, float] = {}
        self.scored: dict[str, float] = {}

    def left(self, cell: Cell) -> float:
        """Seconds that a cell still takes on one worker."""
        self._learn()
        state = self.folder.state(cell.name, self.suite)
        if state in ("done", "failed"):
            return 0.0
        scoring = statistics.median(self.scored.values()) if self.scored else SCORING
        scoring = scoring if self.suite else 0.0
        if state == "trained":
            return scoring
        return scoring + flops(cell) * self._rate() * (1 - self.folder.progress(cell.name))

    def _rate(self) -> float:
        """Seconds for an operation of training."""
        if self.trained:
            return statistics.median(self.trained.values())
        if self.guess is None:
            config = self.cells[0].config
            self.guess = OPTIMISM / measured_rate(config, device_of(config))
        return self.guess

    def _learn(self) -> None:
        """Look at the cells that have ended since the last time."""
        for cell in self.cells:
            run = self.folder.run(cell.name)
            if cell.name in self.scored or not run.exists():
                continue
            manifest = run.read_manifest()
            if "finished" in manifest:
                # Runs that were one batched model shared their time.
                shared = manifest.get("stacked", {"runs": 1})["runs"]
                self.trained[cell.name] = manifest["finished"]["seconds"] / shared / flops(cell)
            if "scored" in manifest:
                self.scored[cell.name] = manifest["scored"]["seconds"]


class Slot:
    """One call of so many seconds, counted from `begun` on the monotonic clock."""

    def __init__(
        self,
        seconds: float,
        pace: Pace,
        *,
        begun: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.pace, self.clock = pace, clock
        self.usable = seconds - min(RESERVE * seconds, LONGEST_RESERVE)
        self.until = (clock() if begun is None else begun) + self.usable

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        return self.clock() >= self.until

    def take(self, queue: deque[Cell]) -> Cell | None:
        """Remove from a queue the cell to begin now; None where none is worth beginning."""
        left, waits = self.until - self.clock(), [self.pace.left(cell) for cell in queue]
        for index, seconds in enumerate(waits):
            if seconds <= left:
                return _removed(queue, index)
        for index, seconds in enumerate(waits):
            if seconds > self.usable and left >= WORTH * self.usable:
                return _removed(queue, index)
        return None


def _removed(queue: deque[Cell], index: int) -> Cell:
    cell = queue[index]
    del queue[index]
    return cell


def by_need(cells: Sequence[Cell], folder: GridFolder, suite: str) -> list[Cell]:
    """Cells in the order in which a call begins them: what is nearly done comes first."""
    order = {"trained": 0, "begun": 1}
    return sorted(cells, key=lambda cell: order.get(folder.state(cell.name, suite), 2))


def calls(waits: Sequence[float], workers: int, usable: float) -> list[int]:
    """How many cells of these lengths each call finishes."""
    left, finished = list(waits), []
    while any(left):
        room, done = [usable] * workers, 0
        for index, seconds in enumerate(left):
            lane = max(range(workers), key=room.__getitem__)
            if 0 < seconds <= room[lane]:
                room[lane] -= seconds
                left[index], done = 0.0, done + 1
            elif seconds > usable == room[lane]:
                left[index], room[lane] = seconds - usable, 0.0
        finished.append(done)
    return finished


def plan(slot: Slot, cells: Sequence[Cell], workers: int) -> str:
    """What `--dry-run` prints of the calls."""
    waits = [slot.pace.left(cell) for cell in cells]
    finished = calls(waits, workers, slot.usable)
    counted = ", ".join(map(str, finished[:12])) + (", …" if len(finished) > 12 else "")
    longest = spelled(max(waits, default=0.0))
    return (
        f"  in {len(finished)} calls of {spelled(slot.usable)} and time to save, which finish "
        f"{counted or 'no'} cells; the longest cell takes about {longest}"
    )
