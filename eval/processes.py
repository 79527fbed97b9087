"""Jobs that keep one core busy are shared with further processes, where there are cores for them.

Rules, counts and probes are many short steps under Python's lock: further threads do not help them.
A further process is begun once for an evaluation and is given jobs, functions with all they need,
through its input. Which process takes a job changes nothing that it finds: each computes with one
thread of torch's and one of numpy's. What cannot be sent, or was lost with a process, is done here.
"""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

import torch

from pellucid.eval import blas
from pellucid.eval.scratch import Scratch
from pellucid.training.signals import end_with_parent

Found = TypeVar("Found")
Job = Callable[[], Found]
"""A `functools.partial` of a function of a module, so that it can be sent."""

MOST = 3
"""Further processes at most: each holds torch, some 300 MB."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What tells libraries of how many threads to be."""
SERVE = """
import torch
torch.set_default_dtype({dtype})
torch.set_float32_matmul_precision({precision!r})
from pellucid.eval.processes import serve
serve({number})
"""


class Outcome(NamedTuple):
    """What a job found, or what it raised."""

    found: Any
    raised: Exception | None = None

    def get(self) -> Any:
        if self.raised is not None:
            raise self.raised
        return self.found


class Lost(Exception):
    """A job was not done: it cannot be sent, or the process is gone."""


class _Other:
    """A further process, and the thread here that waits for it."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.waiting: deque[tuple[Future, Callable[[], Any]]] = deque()
        self.later = 0
        """later jobs that it was given; of those that wait, one that is being done is none"""
        self.line, theirs = Pipe()
        self.scratch = Scratch()
        """where it keeps what is temporary: killed, it removes nothing itself"""
        with theirs:
            self.process = _served(theirs.fileno(), self.scratch)

    def submit(self, do: Callable[[], Any], *, first: bool) -> Future:
        """Have the thread do something: before all that waits for it, or after."""
        future: Future = Future()
        (self.waiting.appendleft if first else self.waiting.append)((future, do))
        self.thread.submit(self._next)
        return future

    def _next(self) -> None:
        future, do = self.waiting.popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(do())
        except BaseException as error:  # noqa: BLE001 - raised where it is asked for
            future.set_exception(error)

    def ask(self, job: Job) -> Outcome:
        """Have it do a job. Raises Lost."""
        try:
            self.line.send(job)
            outcome = self.line.recv()
        except Exception as error:  # whatever a part of the job says of being sent
            raise Lost from error
        if outcome is None:
            raise Lost
        return outcome

    def close(self) -> None:
        """End it, whatever it is at."""
        if self.process is not None:
            self.process.kill()
        self.thread.shutdown()
        self.line.close()
        if self.process is not None:
            self.process.wait()
        self.scratch.remove()


def _served(number: int, scratch: Scratch) -> subprocess.Popen | None:
    """A process that serves; None where the system has none to give, so that its jobs are lost."""
    about = {"dtype": torch.get_default_dtype(), "precision": torch.get_float32_matmul_precision()}
    # Modules are found as they are here: -P keeps those of the working folder out.
    path = os.pathsep.join(place for place in sys.path if isinstance(place, str))
    command = [sys.executable or "", "-P", "-c", SERVE.format(number=number, **about)]
    # Where numpy's threads cannot be one here, they are as many there.
    single = {} if blas.threads() is None else dict.fromkeys(THREADS, "1")
    env = os.environ | {"PYTHONPATH": path, "TMPDIR": str(scratch.path)} | single
    try:
        # In a session of its own: a Ctrl-C in the terminal is for the process that asks alone.
        return subprocess.Popen(command, pass_fds=[number], env=env, start_new_session=True)
    except OSError:
        return None


_others: ContextVar[tuple[_Other, ...]] = ContextVar("others", default=())
"""Each thread has its own: of two evaluations at once, one ends before the other."""


def others() -> int:
    """How many further processes there are now, for this thread."""
    return len(_others.get())


def spare() -> int:
    """How many further processes the threads that torch was given leave room for."""
    return 0 if sys.platform == "win32" else min(torch.get_num_threads() - 1, MOST)


@contextmanager
def begun(number: int) -> Iterator[None]:
    """Share jobs with so many further processes for a while; they have torch's threads meanwhile."""
    mine = tuple(_Other() for _ in range(number))
    before = _others.set((*_others.get(), *mine))
    try:
        # Threads of several processes that wait for one another on fewer cores take several times
        # as long as one.
        with threads(max(1, torch.get_num_threads() - number)):
            yield
    finally:
        _others.reset(before)
        for other in mine:
            other.close()


def each(jobs: Sequence[Job[Found]]) -> list[Found]:
    """What each job finds, in their order; raises what the first that raised did."""
    left, back, outcomes = deque(enumerate(jobs)), deque(), {}

    def take(do: Callable[[Job], Outcome], following: Callable[[], tuple[int, Job]]) -> None:
        while left:
            with suppress(IndexError):  # another took the last one
                index, job = following()
                try:
                    outcomes[index] = do(job)
                except Lost:
                    back.append((index, job))

    some = _others.get() if len(jobs) > 1 else ()
    waiting = [other.submit(partial(take, other.ask, left.pop), first=True) for other in some]
    with one_thread():
        take(_here, left.popleft)
        for future in waiting:
            # One that has not begun waits behind a longer job, and has nothing left to do.
            if not future.cancel():
                future.result()
        outcomes |= {index: _here(job) for index, job in back}
    return [outcomes[index].get() for index in range(len(jobs))]


class Later:
    """A job for another process, once it has nothing else to do. ValueError where there is none."""

    def __init__(self, job: Job) -> None:
        if not others():
            raise ValueError("no other process was begun")
        other = min(_others.get(), key=lambda one: one.later)
        other.later += 1
        self.outcome: Future[Outcome] = other.submit(partial(other.ask, job), first=False)

    def taken_back(self) -> bool:
        """Whether it had not been begun, and now never is."""
        return self.outcome.cancel()

    def get(self) -> Any:
        """What the job finds, once it has; raises what it raised, or Lost where it was not done."""
        return self.outcome.result().get()


def one_thread() -> AbstractContextManager[None]:
    """Compute with one thread of torch's, and one of numpy's."""
    return threads(1)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads of torch's, and no more of numpy's."""
    _before.append((torch.get_num_threads(), blas.threads()))
    torch.set_num_threads(number)
    blas.at_most(number)
    try:
        yield
    finally:
        torchs, numpys = _before.pop()
        torch.set_num_threads(torchs)
        blas.give(numpys)


_before: list[tuple[int, int | None]] = []
"""Threads that torch and numpy had: the last of several blocks to end, in any order, gives them back."""


def _here(job: Job) -> Outcome:
    try:
        return Outcome(job())
    except Exception as error:  # noqa: BLE001 - raised in the order of the jobs
        return Outcome(None, error)


def serve(number: int) -> None:
    """Do the jobs that come through a file descriptor, until it is closed at the other end."""
    end_with_parent()
    import pellucid.eval.evaluate  # noqa: F401 - imported while there is no job yet

    torch.set_num_threads(1)
    with Connection(number) as line:
        while True:
            try:
                job = line.recv()
            except EOFError:
                return
            except Exception:  # noqa: BLE001 - such as a class that only the process that asked knows
                line.send(None)
                continue
            _answer(line, _here(job))


def _answer(line: Connection, outcome: Outcome) -> None:
    try:
        line.send(outcome)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - what cannot be sent is found again where it was asked for
        line.send(None)
