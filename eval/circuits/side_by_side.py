"""Jobs that need nothing of one another, done side by side on the cores of this machine.

An operation on a small model is too short to be shared by cores: two threads make a search for a
circuit a third faster, two searches on a core each take as long as one.
"""

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from threading import Thread
from typing import TypeVar

import torch
from torch import nn

Found = TypeVar("Found")
MOST = 4
"""Most jobs at once: each holds activations of its own."""
PATIENCE = 10.0
"""Seconds that an interrupted program waits for a helper to leave its job."""


def at_once(model: nn.Module, jobs: int) -> int:
    """How many of some jobs with a model are done at once: one on an accelerator, which one fills."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    return min(MOST, jobs, torch.get_num_threads()) if on_cpu else 1


def side_by_side(jobs: Sequence[Callable[[], Found]], workers: int) -> list[Found]:
    """What each job gives, in their order; they begin in it too, so the longest are best first.

    Jobs must share nothing that one of them changes, a model's sites among it. The workers share
    the threads of torch evenly, so that a job's numbers depend on that share alone. What a job
    raises is raised once those that have begun are done, and no other begins. An interrupted caller
    breaks the jobs off.
    """
    threads, slopes = torch.get_num_threads(), torch.is_grad_enabled()
    left, found, errors = enumerate(jobs), {}, []

    def work(caught: type[BaseException]) -> None:
        # A thread of Python has a number of threads of its own, and begins with gradients.
        torch.set_num_threads(max(1, threads // workers))
        torch.set_grad_enabled(slopes)
        try:
            for number, job in left:
                found[number] = job()
        except caught as error:
            errors.append(error)
        finally:
            deque(left, maxlen=0)  # no other job begins

    # Daemons: a helper that cannot be broken off does not keep an interrupted program from its end.
    helpers = [Thread(target=work, args=(BaseException,), daemon=True) for _ in range(workers - 1)]
    try:
        for helper in helpers:
            helper.start()
        work(Exception)
        for helper in helpers:
            helper.join()
    except BaseException:
        _break_off(helpers)
        raise
    finally:
        torch.set_num_threads(threads)
    if errors:
        raise errors[0]
    return [found[number] for number in range(len(jobs))]


def _break_off(helpers: Sequence[Thread]) -> None:
    """Have threads end where they are: Python aborts if one is within torch when the program ends."""
    for helper in helpers:
        if helper.is_alive():
            number, reason = ctypes.c_ulong(helper.ident), ctypes.py_object(SystemExit)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, reason)
    for helper in helpers:
        if helper.is_alive():
            helper.join(PATIENCE)
