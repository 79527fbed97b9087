"""Jobs that need nothing of one another, done side by side on the cores of this machine.

An operation on a small model is too short to be shared by cores: two threads make a search for a
circuit a third faster, two searches on a core each take as long as one.
"""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Thread
from typing import TypeVar

import torch
from torch import nn

Found = TypeVar("Found")
MOST = 4
"""Most jobs at once: each holds activations of its own."""


def at_once(model: nn.Module, jobs: int) -> int:
    """How many of some jobs with a model are done at once: one on an accelerator, which one fills."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    return min(MOST, jobs, torch.get_num_threads()) if on_cpu else 1


def side_by_side(jobs: Sequence[Callable[[], Found]], workers: int) -> list[Found]:
    """What each job gives, in their order; they begin in it too, so the longest are best first.

    Jobs must share nothing that one of them changes, a model's sites among it. The workers share
    the threads of torch evenly, so that a job's numbers depend on that share alone. What a job
    raises is raised once those that have begun are done, and no other begins.
    """
    threads = torch.get_num_threads()
    left, found, errors = deque(enumerate(jobs)), {}, []

    def work() -> None:
        # A thread of Python has a number of threads of its own.
        torch.set_num_threads(max(1, threads // workers))
        while True:
            try:
                number, job = left.popleft()
            except IndexError:
                return
            try:
                found[number] = job()
            except Exception as error:  # noqa: BLE001 - raised by the caller, when all have stopped
                errors.append(error)
                left.clear()

    # Daemons: an interrupted program does not wait for the searches that it has begun.
    helpers = [Thread(target=work, daemon=True) for _ in range(workers - 1)]
    try:
        for helper in helpers:
            helper.start()
        work()
        for helper in helpers:
            helper.join()
    finally:
        left.clear()
        torch.set_num_threads(threads)
    if errors:
        raise errors[0]
    return [found[number] for number in range(len(jobs))]
