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
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pellucid.errors import EXIT_NONFINITE, EXIT_OK, EXIT_RESUME, EXIT_USER
from pellucid.sweep.attempts import Attempts, last_line
from pellucid.sweep.board import Board
from pellucid.sweep.folder import Failure, GridFolder
from pellucid.sweep.grid import Cell
from pellucid.sweep.job import IN_USE, NONFINITE, task_of
from pellucid.sweep.stacks import Stacks

BUSY = 2.0
"""Seconds until a cell that another process holds is looked at again."""
WAITING = 0.2
"""Seconds until a worker without a cell looks for one again."""


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
        stack: int = 1,
        beside: int = 0,
        take: Callable[[deque[Cell]], Cell | None] | None = None,
    ):
        self.folder, self.suite, self.split = folder, suite, split
        self.threads, self.gpus = threads, gpus
        self.queue = deque(cells)
        self.stacks = Stacks(folder, cells, suite, stack)
        self.take = take or deque.popleft
        self.board = Board()
        self.lock = threading.Lock()
        self.stopping = False
        self.fault: BaseException | None = None
        self.attempts = Attempts(folder)
        self.workers: dict[int, subprocess.Popen] = {}
        self.serving = workers
        """threads that take whatever there is; those beside them take what cannot be stacked"""
        self.threads_of = [
            threading.Thread(target=self._serve, args=(index, index >= workers))
            for index in range(workers + beside)
        ]

    def run(self, watch: Callable[[Board], None] = lambda board: None) -> int:
        """Run the queue to its end; 0, or 75 where a stop was asked for, or cells were left.

        Raises what broke one of its threads, once the others have saved what they were at.
        """
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
        if self.fault is not None:
            raise self.fault
        return EXIT_RESUME if self.stopping or self.queue else EXIT_OK

    def stop(self, *_: Any) -> None:
        """Have every worker save its cell and end."""
        self.stopping = True
        for worker in list(self.workers.values()):
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)

    def _serve(self, index: int, beside: bool) -> None:
        worker: _Worker | None = None
        try:
            while (cells := self._next(beside)) and not self.stopping:
                try:
                    worker = self._run(cells, worker, index)
                finally:
                    with self.lock:
                        self.stacks.end(cells)
        except BaseException as error:  # noqa: BLE001 - the thread that runs the engine raises it
            self.fault = error
            self.stop()
        finally:
            with self.lock:
                self.serving -= not beside
            if worker:
                worker.close()

    def _run(self, cells: list[Cell], worker: "_Worker | None", index: int) -> "_Worker | None":
        """Run what of some cells is to be run here; the worker, which may be another one then."""
        with ExitStack() as claims:
            mine = [cell for cell in cells if self._claimed(cell, claims, len(cells) == 1)]
            if not mine:
                return worker
            if worker is not None and worker.process.poll() is not None:
                worker.close()
                worker = None
            worker = worker or self._start(index)
            if len(mine) == 1:
                self._one(worker, mine[0])
            else:
                self._together(worker, mine)
            return worker

    def _next(self, beside: bool) -> list[Cell]:
        """The cell to begin now, and those that are trained together with it; none at the end.

        While others are trained together, their scoring is to come, or that they cannot be: these
        are trained by the threads `beside` as well, one by one.
        """
        while True:
            with self.lock:
                alone = beside and self.serving
                queue = deque(self.stacks.alone(self.queue)) if alone else self.queue
                cell = self.take(queue) if queue else None
                if cell and alone:
                    self.queue.remove(cell)
                waits = self.serving if beside else self.stacks.begun
                if cell or self.stopping or not waits:
                    return self.stacks.begin(cell, self.queue) if cell else []
            time.sleep(WAITING)

    def _claimed(self, cell: Cell, claims: ExitStack, alone: bool) -> bool:
        """Whether a cell is this process's to run, and there is anything to be done for it."""
        if not claims.enter_context(self.folder.claim(cell.name)):
            self._wait_for(cell, BUSY if alone else 0.0)
            return False
        return self.folder.state(cell.name, self.suite) not in ("done", "failed")

    def _wait_for(self, cell: Cell, seconds: float = BUSY) -> None:
        """Another process is at it: look again later, as long as it is not done."""
        self.board.elsewhere.add(cell.name)
        if self.folder.state(cell.name, self.suite) not in ("done", "failed"):
            time.sleep(seconds)
            self.stacks.dissolve([cell])
            with self.lock:
                self.queue.append(cell)
        else:
            self.board.elsewhere.discard(cell.name)

    def _one(self, worker: "_Worker", cell: Cell) -> None:
        self.board.elsewhere.discard(cell.name)
        self.board.running[cell.name] = time.monotonic()
        answer = worker.ask(self._task(cell))
        begun = self.board.running.pop(cell.name)
        if answer is None:
            self._died(cell, worker)
        elif answer["code"] == EXIT_OK:
            self.board.ended[cell.name] = time.monotonic() - begun
        elif answer["code"] == EXIT_USER and IN_USE in answer["reason"]:
            self._wait_for(cell)
        elif answer["code"] == EXIT_RESUME:
            self._again(cell)
        else:
            self.folder.fail(cell.name, Failure(answer["reason"], answer["code"], 1))

    def _together(self, worker: "_Worker", cells: list[Cell]) -> None:
        """Train cells as one batched model; what else there is to do is done one by one."""
        begun = time.monotonic()
        self.board.running.update((cell.name, begun) for cell in cells)
        answer = worker.ask({"stack": [self._task(cell) for cell in cells]})
        for cell in cells:
            del self.board.running[cell.name]
        self.stacks.dissolve(cells)
        if answer and "refused" in answer:
            self.board.say(f"not stacked, {_briefly(cells)}: {answer['refused']}")
        endings = answer.get("endings") if answer else None
        # From the last to the first, because each that goes on is put before the others.
        for index in reversed(range(len(cells))):
            if answer is None:
                self._died(cells[index], worker)
            elif endings and endings[index][0] == EXIT_NONFINITE:
                self.folder.fail(cells[index].name, Failure(NONFINITE, EXIT_NONFINITE, 1))
            elif endings and endings[index][0] == EXIT_OK and not self.suite:
                self.board.ended[cells[index].name] = time.monotonic() - begun
            else:
                self._again(cells[index])

    def _task(self, cell: Cell) -> dict[str, Any]:
        told = {"suite": self.suite, "split": self.split, "threads": self.threads}
        return task_of(self.folder, cell, **told)

    def _again(self, cell: Cell) -> None:
        """Have a cell be the next that is begun."""
        with self.lock:
            self.queue.appendleft(cell)

    def _died(self, cell: Cell, worker: "_Worker") -> None:
        """Try a cell again whose worker was killed, as long as it gets further each time."""
        how = worker.ending()
        if self.stopping or self.attempts.again(cell.name, how, worker.process.returncode):
            self._again(cell)

    def _start(self, index: int) -> "_Worker":
        gpu = self.gpus[index % len(self.gpus)] if self.gpus else None
        worker = _Worker(self.folder.code, self.threads, gpu)
        self.workers[index] = worker.process
        if self.stopping:  # the stop may have come before the process was known
            worker.process.terminate()
        return worker


def _briefly(cells: Sequence[Cell]) -> str:
    return f"{cells[0].name} and {len(cells) - 1} more"


class _Worker:
    """A worker process and the lines that go to it and come from it."""

    def __init__(self, code: Path, threads: int, gpu: int | None):
        environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": str(threads)}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
        # What it says outside of cells, which have logs: in a file without a name, which, unlike a
        # pipe, nobody has to empty, and which is gone with both processes. Answers come by a pipe
        # of their own, so that nothing that is printed is taken for one.
        self.said = TemporaryFile()  # noqa: SIM115 - closed with the process
        ours, theirs = os.pipe()
        self.answers = os.fdopen(ours, encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pellucid.sweep.worker", str(threads), str(theirs)],
            stdin=subprocess.PIPE,
            stdout=self.said,
            stderr=self.said,
            pass_fds=(theirs,),
            text=True,
            env=environment,
            cwd=Path.cwd(),
            # A Ctrl-C in the terminal reaches the runner alone, which then tells its workers.
            start_new_session=True,
        )
        os.close(theirs)
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
        line = self.answers.readline()
        # A process that is killed may leave half of one.
        return json.loads(line) if line.endswith("\n") else None

    def ending(self) -> str:
        """How the process ended: by which signal, or with which exit code and last words."""
        code = self.process.wait()
        if code < 0:
            return signal.Signals(-code).name
        self.said.seek(0)
        said = last_line(self.said.read().decode(errors="replace"))
        return f"exit code {code}, {said}" if said else f"exit code {code}"

    def close(self) -> None:
        """Let the process end, once it has served what it was asked."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.answers.close()
        self.said.close()
