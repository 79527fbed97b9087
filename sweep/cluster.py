"""The engine of a cluster: cells as its jobs, watched through the grid's folder alone."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pellucid.errors import EXIT_OK, EXIT_RESUME
from pellucid.sweep.attempts import Attempts
from pellucid.sweep.board import Board
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import Cell
from pellucid.sweep.job import job_of, task_of

LOOK = 0.5
"""Seconds between two looks at the jobs."""
LEAVE = 120.0
"""Seconds that jobs have to save, once they were told to stop, unless a call ends before."""


class Handle(Protocol):
    """A job that was submitted."""

    def ended(self) -> bool: ...
    def cancel(self) -> None: ...
    def reason(self) -> str: ...


class Pool(Protocol):
    """Where jobs run."""

    at_once: int | None
    """jobs that are submitted at a time; None leaves that to the cluster's own queue"""

    def submit(self, jobs: Sequence[dict[str, Any]]) -> list[Handle]: ...
    def adopted(self) -> dict[str, Handle]: ...
    def close(self) -> None: ...


class ClusterEngine:
    """Submits cells to a pool until all are done or have failed; a stop has them saved."""

    def __init__(
        self,
        folder: GridFolder,
        cells: Sequence[Cell],
        pool: Pool,
        *,
        suite: str,
        split: str,
        threads: int,
        take: Callable[[deque[Cell]], Cell | None] | None = None,
        latest: float = math.inf,
    ):
        self.folder, self.pool = folder, pool
        self.suite, self.split, self.threads = suite, split, threads
        self.take, self.latest = take or deque.popleft, latest
        self.cells = {cell.name: cell for cell in cells}
        self.queue = deque(self.cells)
        self.jobs: dict[str, Handle] = {}
        self.attempts = Attempts(folder)
        self.board = Board()
        self.stopping = False

    def run(self, watch: Callable[[Board], None] = lambda board: None) -> int:
        """Run the queue to its end; 0, or 75 where a stop was asked for, or cells were left."""
        try:
            self._adopt()
            while (self.queue or self.jobs) and not self.stopping:
                if not self._submit() and not self.jobs:
                    break
                self._look()
                watch(self.board)
                time.sleep(LOOK)
        finally:
            self._end()
            watch(self.board)
        return EXIT_RESUME if self.stopping or self.queue else EXIT_OK

    def stop(self, *_: Any) -> None:
        """Have every job save its cell and end; those that wait are withdrawn."""
        self.stopping = True

    def _adopt(self) -> None:
        """Go on watching what a runner has submitted that is gone."""
        for name, handle in self.pool.adopted().items():
            if name in self.cells and not handle.ended():
                self.jobs[name] = handle
                self.queue.remove(name)

    def _submit(self) -> bool:
        """Submit what there is room for; whether `take` had a cell, be it one that is held elsewhere."""
        waiting, chosen, taken = deque(self.cells[name] for name in self.queue), [], False
        room = math.inf if self.pool.at_once is None else self.pool.at_once - len(self.jobs)
        while waiting and len(chosen) < room and (cell := self.take(waiting)):
            taken = True
            if self._is_due(cell.name):
                chosen.append(cell.name)
        for name in chosen:
            self.queue.remove(name)
        handles = self.pool.submit(list(map(self._job, chosen))) if chosen else []
        self.jobs.update(zip(chosen, handles, strict=True))
        return taken

    def _is_due(self, name: str) -> bool:
        """Whether a job is wanted for a cell; one that is over leaves the queue."""
        if self.folder.state(name, self.suite) in ("done", "failed"):
            self.queue.remove(name)
            self.board.elsewhere.discard(name)
            return False
        return self._is_free(name)

    def _is_free(self, name: str) -> bool:
        """Whether no process is at a cell, as far as this machine can see its lock."""
        with self.folder.claim(name) as mine:
            (self.board.elsewhere.discard if mine else self.board.elsewhere.add)(name)
            return mine

    def _job(self, name: str) -> dict[str, Any]:
        told = {"suite": self.suite, "split": self.split, "threads": self.threads}
        task = task_of(self.folder, self.cells[name], **told)
        return job_of(task, self.folder, name, self.threads)

    def _look(self) -> None:
        for name, handle in list(self.jobs.items()):
            if self.folder.run(name).exists():
                self.board.running.setdefault(name, time.monotonic())
            if handle.ended():
                del self.jobs[name]
                self._ended(name, handle)

    def _ended(self, name: str, handle: Handle) -> None:
        begun = self.board.running.pop(name, time.monotonic())
        state = self.folder.state(name, self.suite)
        if state == "done":
            self.board.ended[name] = time.monotonic() - begun
        elif state != "failed" and not self.stopping and self._again(name, handle):
            self.queue.append(name)

    def _again(self, name: str, handle: Handle) -> bool:
        """Whether to try again; that another process is at the cell is no death."""
        return not self._is_free(name) or self.attempts.again(name, handle.reason())

    def _end(self) -> None:
        try:
            for handle in self.jobs.values():
                handle.cancel()
            latest = min(time.monotonic() + LEAVE, self.latest)
            while self.jobs and time.monotonic() < latest:
                self._look()
                time.sleep(LOOK)
        finally:
            self.pool.close()
