"""A bounded call of the runner: which cells it begins, and when it stops.

A cell is begun where its training and its scoring are expected to fit into what is left of the
call. One that is longer than a whole call is begun with any worker that has nothing shorter to do,
is saved at the bound, and goes on in the next call.
"""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence

from pellucid.settings.summary import device_of, measured_rate, spelled
from pellucid.sweep import consistency, scoring
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import Cell
from pellucid.sweep.table import flops

RESERVE, LONGEST_RESERVE = 0.1, 60.0
"""Share of a call that is kept for saving and leaving, and its most in seconds."""
SAVING = 2 / 3
"""Share of it in which what runs on a cluster has to be saved: leaving takes the rest."""
WORTH = 0.2
"""Share of a call that must be left for a cell to be begun which does not fit."""
FRESH = 0.5
"""Seconds for which what was seen of the cells holds."""
OPTIMISM = 3.0
"""How much longer training may take than its matrix products, before anything was measured."""


class Pace:
    """Expected seconds of cells: from those that are done, else from a matrix product here.

    Scoring is expected to take what it took in this grid, else what docs/performance.md says of
    other models, and longer than what a call's end has cut off.
    """

    def __init__(self, folder: GridFolder, cells: Sequence[Cell], suite: str):
        self.folder, self.cells, self.suite = folder, list(cells), suite
        self.guess: float | None = None
        self.looked = -math.inf
        self.trained: dict[str, float] = {}
        self.scored: dict[str, float] = {}
        self.in_vain: dict[str, float] = {}

    def left(self, cell: Cell) -> float:
        """Seconds that a cell still takes on one worker."""
        self._learn()
        state = self.folder.state(cell.name, self.suite)
        if state in ("done", "failed"):
            return 0.0
        scored = self.scoring(cell)
        if state == "trained":
            return scored
        return scored + flops(cell) * self._rate() * (1 - self.folder.progress(cell.name))

    def scoring(self, cell: Cell) -> float:
        """Seconds that a cell's scoring is expected to take."""
        self._learn()
        if not self.suite:
            return 0.0
        if self.scored:
            expected = statistics.median(self.scored.values())
        else:
            expected = max([scoring.guessed(cell, self.suite), *self.in_vain.values()])
        return max(expected, self.in_vain.get(cell.name, 0.0))

    def _rate(self) -> float:
        """Seconds for an operation of training."""
        if self.trained:
            return statistics.median(self.trained.values())
        if self.guess is None:
            config = self.cells[0].config
            self.guess = OPTIMISM / measured_rate(config, device_of(config))
        return self.guess

    def _learn(self) -> None:
        """Look at the cells that have ended since the last time, unless that was just now.

        Each cell is asked for in turn: looking at all of them every time is quadratic.
        """
        if time.monotonic() - self.looked < FRESH:
            return
        for cell in self.cells:
            run = self.folder.run(cell.name)
            if cell.name in self.scored or not run.exists():
                continue
            manifest = run.read_manifest()
            if "finished" in manifest:
                # Runs that were one batched model shared their time.
                shared = manifest.get("stacked", {"runs": 1})["runs"]
                self.trained[cell.name] = manifest["finished"]["seconds"] / shared / flops(cell)
            field = "scored" if consistency.plain(self.suite) == self.suite else consistency.FIELD
            if field in manifest:
                self.scored[cell.name] = manifest[field]["seconds"]
            elif seconds := scoring.in_vain(manifest, self.suite):
                self.in_vain[cell.name] = seconds
        self.looked = time.monotonic()


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
        self.saved = self.until + SAVING * (seconds - self.usable)
        """when a cluster's jobs that are still at it are left"""

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        return self.clock() >= self.until

    @property
    def span(self) -> tuple[float, float]:
        """When the call began, and now or when it ended, on the clock of `time.time`."""
        off = time.time() - self.clock()
        return off + self.until - self.usable, off + min(self.clock(), self.until)

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


def unscorable(slot: Slot, cells: Sequence[Cell]) -> list[Cell]:
    """Trained cells whose scoring fits into no call of this length, as earlier ones have shown."""
    folder, suite = slot.pace.folder, slot.pace.suite
    return [
        cell
        for cell in cells
        if folder.state(cell.name, suite) == "trained"
        and scoring.fits_none(folder.run(cell.name).read_manifest(), suite, slot.usable)
    ]


def too_short(slot: Slot, cells: Sequence[Cell]) -> str:
    """The sentence about cells that no call of this length can score."""
    pace, first = slot.pace, cells[0]
    spent = pace.folder.run(first.name).read_manifest()[scoring.FIELD]["seconds"]
    more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
    return (
        f"{first.name}{more}: scoring with the suite {pace.suite} was cut off after "
        f"{spelled(spent)} and has to begin again each time; no call of {spelled(slot.usable)} "
        f"fits it: a longer --slot is accepted, or none"
    )


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
    scored = max(map(slot.pace.scoring, cells), default=0.0)
    doubt = (
        f"; scoring one is expected to take {spelled(scored)} and cannot be cut: a longer --slot"
        if scored > slot.usable
        else ""
    )
    return (
        f"  in {len(finished)} calls of {spelled(slot.usable)} and time to save, which finish "
        f"{counted or 'no'} cells; the longest cell takes about {longest}{doubt}"
    )
