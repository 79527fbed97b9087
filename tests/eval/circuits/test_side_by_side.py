"""Jobs done side by side on the cores of a machine."""

import threading
from threading import Thread

import pytest
import torch

from pellucid.eval.circuits import side_by_side as module
from pellucid.eval.circuits.side_by_side import MOST, at_once, side_by_side


def test_jobs_are_done_at_once_and_come_in_their_own_order(two_threads):
    both = threading.Barrier(2, timeout=30)

    def job(number: int):
        # Two of them wait for each other: one worker alone would never come past here.
        both.wait()
        return number, torch.get_num_threads(), threading.get_ident()

    found = side_by_side([lambda n=n: job(n) for n in range(4)], workers=2)
    assert [number for number, _, _ in found] == [0, 1, 2, 3]
    assert {threads for _, threads, _ in found} == {1}
    assert threading.get_ident() in {who for _, _, who in found}
    assert torch.get_num_threads() == 2


def test_one_worker_has_all_threads_and_is_the_caller(two_threads):
    job = lambda: (torch.get_num_threads(), threading.get_ident())
    assert side_by_side([job, job], workers=1) == [(2, threading.get_ident())] * 2
    assert side_by_side([], workers=1) == []


@pytest.fixture
def waited_for(monkeypatch) -> threading.Event:
    """Set when the caller waits for its helpers."""
    waits = threading.Event()

    class Helper(Thread):
        def join(self, timeout=None):
            waits.set()
            super().join(timeout)

    monkeypatch.setattr(module, "Thread", Helper)
    return waits


@pytest.mark.parametrize("error", [ValueError, SystemExit])
@pytest.mark.parametrize("where", ["caller", "helper"])
def test_what_a_job_raises_is_raised_and_no_other_job_begins(two_threads, waited_for, where, error):
    caller, both, begun = threading.current_thread(), threading.Barrier(2, timeout=30), []
    helper = []

    def job(number: int) -> None:
        begun.append(number)
        if threading.current_thread() is not caller:
            helper.append(threading.current_thread())
        both.wait()
        if (threading.current_thread() is caller) == (where == "caller"):
            raise error(f"job in the {where}")
        # The other job ends when what was raised has been seen to.
        if where == "helper":
            Thread.join(helper[0], 30)
        else:
            assert waited_for.wait(30)

    with pytest.raises(error, match=f"job in the {where}"):
        side_by_side([lambda n=n: job(n) for n in range(6)], workers=2)
    assert sorted(begun) == [0, 1] and torch.get_num_threads() == 2


def test_an_interrupted_caller_breaks_the_others_off(two_threads):
    """A thread that is within torch when Python ends makes it abort, whatever code it ends with."""
    caller, go_on, helper = threading.get_ident(), threading.Event(), []
    both = threading.Barrier(2, timeout=30)

    def job() -> None:
        if threading.get_ident() != caller:
            helper.append(threading.current_thread())
        both.wait()
        if threading.get_ident() == caller:
            raise KeyboardInterrupt
        while not go_on.is_set():
            torch.ones(8).sum()

    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side([job] * 4, workers=2)
        assert torch.get_num_threads() == 2
        assert [thread.is_alive() for thread in helper] == [False]
    finally:
        go_on.set()


def test_helpers_compute_gradients_where_the_caller_does(two_threads):
    both = threading.Barrier(2, timeout=30)
    job = lambda: both.wait() >= 0 and torch.is_grad_enabled()
    for wanted in (False, True):
        with torch.set_grad_enabled(wanted):
            assert side_by_side([job, job], workers=2) == [wanted, wanted]


def test_as_many_at_once_as_threads_and_one_on_an_accelerator(two_threads):
    on_cpu = torch.nn.Linear(1, 1)
    assert at_once(on_cpu, 9) == 2 and at_once(on_cpu, 1) == 1
    assert at_once(torch.nn.Linear(1, 1, device="meta"), 9) == 1
    torch.set_num_threads(MOST + 3)
    assert at_once(on_cpu, 9) == MOST
