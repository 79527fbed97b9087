"""The engine of this machine: a queue of cells over worker processes, one or more to a GPU."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pellucid.errors import EXIT_OK, EXIT_RESUME, EXIT_USER
from pellucid.sweep.folder import Failure, GridFolder
from pellucid.sweep.grid import Cell

DEATHS = 3
"""Times that a worker may die at a cell without having saved anything new."""
BUSY = 2.0
"""Seconds until a cell that another process holds is looked at again."""
IN_USE = "is in use by"


@dataclass
class Board:
    """What the workers are at, for the table: shared, and changed under one lock."""

    running: dict[str, float] = field(default_factory=dict)
    """cells and when they were begun"""
    ended: dict[str, float] = field(default_factory=dict)
    """seconds that cells have taken"""
    elsewhere: set[str] = field(default_factory=set)
    """cells that another runner is at"""


class LocalEngine:
    """Runs cells in worker processes; a stop saves what they are at."""

    def __init__(
        self,
        folder: GridFolder,
        cells: Sequence[Cell],
        *,
        suite: str,
        split: str = "val",
        workers: int,
        threads: int = 1,
        gpus: Sequence[int] = (),
    ):
        self.folder, self.suite, self.split = folder, suite, split
        self.threads, self.gpus = threads, gpus
        self.queue = deque(cells)
        self.board = Board()
        self.lock = threading.Lock()
        self.stopping = False
        self.deaths: dict[str, tuple[int, int]] = {}
        self.workers: dict[int, subprocess.Popen] = {}
        self.threads_of = [threading.Thread(target=self._serve, args=(i,)) for i in range(workers)]

    def run(self, watch: Callable[[Board], None] = lambda board: None) -> int:
        """Run the queue to its end; 0, or 75 where a stop was asked for."""
        for thread in self.threads_of:
            thread.start()
        try:
            while any(thread.is_alive() for thread in self.threads_of):
                watch(self.board)
                time.sleep(0.2)
        except BaseException:
            self.stop()
            raise
        finally:
            for thread in self.threads_of:
                thread.join()
            watch(self.board)
        return EXIT_RESUME if self.stopping else EXIT_OK

    def stop(self, *_: Any) -> None:
        """Have every worker save its cell and end."""
        self.stopping = True
        for worker in list(self.workers.values()):
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)

    def _serve(self, index: int) -> None:
        worker: _Worker | None = None
        while (cell := self._next()) and not self.stopping:
            with self.folder.claim(cell.name) as mine:
                if not mine:
                    self._wait_for(cell)
                    continue
                if self.folder.state(cell.name, self.suite) in ("done", "failed"):
                    continue
                if worker is not None and worker.process.poll() is not None:
                    worker.close()
                    worker = None
                worker = worker or self._start(index)
                self._one(worker, cell)
        if worker:
            worker.close()

    def _next(self) -> Cell | None:
        with self.lock:
            return self.queue.popleft() if self.queue else None

    def _wait_for(self, cell: Cell) -> None:
        """Another process is at it: look again later, as long as it is not done."""
        self.board.elsewhere.add(cell.name)
        if self.folder.state(cell.name, self.suite) not in ("done", "failed"):
            time.sleep(BUSY)
            with self.lock:
                self.queue.append(cell)
        else:
            self.board.elsewhere.discard(cell.name)

    def _one(self, worker: "_Worker", cell: Cell) -> None:
        self.board.elsewhere.discard(cell.name)
        self.board.running[cell.name] = time.monotonic()
        answer = worker.ask(
            {
                "words": [*cell.words, f"train.threads={self.threads}"],
                "path": str(self.folder.run(cell.name).path),
                "log": str(self.folder.logs / f"{cell.name}.log"),
                "suite": self.suite,
                "split": self.split,
                "selected_by": list(cell.selected_by),
            }
        )
        begun = self.board.running.pop(cell.name)
        if answer is None:
            self._died(cell, worker)
        elif answer["code"] == EXIT_OK:
            self.board.ended[cell.name] = time.monotonic() - begun
        elif answer["code"] == EXIT_USER and IN_USE in answer["reason"]:
            self._wait_for(cell)
        elif answer["code"] == EXIT_RESUME:
            with self.lock:
                self.queue.appendleft(cell)
        else:
            self.folder.fail(cell.name, Failure(answer["reason"], answer["code"], 1))

    def _died(self, cell: Cell, worker: "_Worker") -> None:
        """Try a cell again whose worker was killed, as long as it gets further each time."""
        code = worker.process.wait()
        saved = self.folder.saved(cell.name)
        deaths, before = self.deaths.get(cell.name, (0, -1))
        deaths = deaths + 1 if saved <= before else 1
        self.deaths[cell.name] = (deaths, saved)
        if self.stopping or deaths < DEATHS:
            with self.lock:
                self.queue.appendleft(cell)
            return
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        reason = f"its process ended {deaths} times without getting further ({how})"
        self.folder.fail(cell.name, Failure(reason, code, deaths))

    def _start(self, index: int) -> "_Worker":
        gpu = self.gpus[index % len(self.gpus)] if self.gpus else None
        worker = _Worker(self.folder.code, self.threads, gpu)
        self.workers[index] = worker.process
        if self.stopping:  # the stop may have come before the process was known
            worker.process.terminate()
        return worker


class _Worker:
    """A worker process and the lines that go to it and come from it."""

    def __init__(self, code: Path, threads: int, gpu: int | None):
        environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": str(threads)}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pellucid.sweep.worker", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=Path.cwd(),
            # A Ctrl-C in the terminal reaches the runner alone, which then tells its workers.
            start_new_session=True,
        )
        self._hear()  # ready

    def ask(self, task: dict[str, Any]) -> dict[str, Any] | None:
        """What became of a cell; None where the process has died."""
        try:
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        return self._hear()

    def _hear(self) -> dict[str, Any] | None:
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        """Let the process end, once it has served what it was asked."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
