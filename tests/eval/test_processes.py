"""Jobs are shared with another process, and nothing that they find depends on which one did them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support.jobs import fatal, process, raising, touched, unsendable, waiting

from pellucid.eval import blas, processes
from pellucid.eval.concepts.logistic import fit
from pellucid.eval.harvest import Harvest
from pellucid.eval.processes import Later, Lost, begun, each, one_thread, others, spare
from pellucid.eval.score import NoValue


def test_without_others_jobs_are_done_here_in_order():
    assert others() == 0 and each([]) == []
    assert each([partial(divmod, 17, by) for by in (5, 3)]) == [(3, 2), (5, 2)]
    with pytest.raises(ValueError, match="no other process"):
        Later(process)


def test_there_is_a_process_for_every_further_thread():
    before = torch.get_num_threads()
    try:
        for threads, expected in ((1, 0), (2, 1), (4, 3), (64, 3)):
            torch.set_num_threads(threads)
            assert spare() == expected
    finally:
        torch.set_num_threads(before)


def test_two_jobs_are_done_at_once_and_come_back_in_order(other, tmp_path):
    """The first waits for the last: one process alone would wait for ever."""
    here, there = each([partial(waiting, tmp_path / "done"), partial(touched, tmp_path / "done")])
    assert here == os.getpid() != there


def test_a_later_job_is_done_by_the_other_process(other):
    assert Later(process).get() != os.getpid()
    with pytest.raises(NoValue, match="no such thing"):
        Later(partial(raising, "no such thing")).get()
    with pytest.raises(Lost):
        Later(lambda: 1).get()


def test_other_jobs_do_not_wait_behind_a_later_one(other, tmp_path):
    later = Later(partial(waiting, tmp_path / "done"))
    while not later.outcome.running():  # what has not begun waits behind all others
        time.sleep(0.01)
    assert each([process] * 3) == [os.getpid()] * 3
    assert each([partial(touched, tmp_path / "done")]) == [os.getpid()]
    assert later.get() != os.getpid()


def test_the_first_job_that_raised_is_told(other):
    jobs = [process, *(partial(raising, f"reason {i}") for i in range(4))]
    for _ in range(5):
        with pytest.raises(NoValue, match="reason 0"):
            each(jobs)


def test_what_cannot_be_sent_is_done_here(other, tmp_path):
    wait, touch = partial(waiting, tmp_path / "done"), partial(touched, tmp_path / "done")
    assert each([process, lambda: 3])[1] == 3
    # The other process takes the last first: it finds what it cannot send, and goes on. Where this
    # one is slow to begin, it goes on to the end.
    made = each([wait, touch, unsendable])
    assert {*made[:2]} != {os.getpid()} and callable(made[2])


def test_jobs_of_a_process_that_dies_are_done_here(monkeypatch):
    none = ContextVar("none", default=())  # that of the other tests lives on
    monkeypatch.setattr("pellucid.eval.processes._others", none)
    with begun(1):
        assert each([partial(fatal, os.getpid())] * 4) == ["done here"] * 4
        with pytest.raises(Lost):
            Later(partial(fatal, os.getpid())).get()
        assert each([process, process]) == [os.getpid()] * 2


def test_the_other_computes_with_one_thread_and_so_does_this_one(other, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert Later(torch.get_num_threads).get() == 1
        assert each([torch.get_num_threads] * 3) == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(blas.threads() is None, reason="numpy computes with another library")
def test_numpy_rounds_alike_in_both_processes(other):
    """Also where it was given two threads here: sums divided among them would be others."""
    rng, before = np.random.default_rng(0), blas.threads()
    job = partial(fit, rng.standard_normal((6000, 32)), rng.random(6000) < 0.4)
    blas.give(2)
    try:
        (here,) = each([job])
        assert np.array_equal(here, Later(job).get()) and blas.threads() == 2
    finally:
        blas.give(before)


def test_later_jobs_are_spread_over_all_processes(monkeypatch):
    """Also where each is done, or begun, before the next is given."""
    monkeypatch.setattr(processes, "_others", ContextVar("none", default=()))
    monkeypatch.setattr(processes, "_served", lambda *_: None)
    monkeypatch.setattr(processes._Other, "ask", lambda self, _: processes.Outcome(id(self)))
    with begun(3):
        assert len({Later(process).get() for _ in range(3)}) == 3


def test_the_last_of_two_blocks_gives_the_threads_back():
    """As evaluations in two threads end, neither inside the other."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        one, two = one_thread(), one_thread()
        one.__enter__()
        two.__enter__()
        one.__exit__(None, None, None)
        assert torch.get_num_threads() == 1
        two.__exit__(None, None, None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_another_thread_has_none_of_this_one(other):
    """It would lose them, in the middle of its jobs, where this one is done."""
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(others).result() == 0 < others()


@pytest.mark.parametrize("executable", ["/no/such/python", "", None])
def test_jobs_are_done_here_where_there_is_no_process_to_be_had(monkeypatch, executable):
    monkeypatch.setattr("pellucid.eval.processes._others", ContextVar("none", default=()))
    monkeypatch.setattr(sys, "executable", executable)
    with begun(2):
        assert each([process] * 5) == [os.getpid()] * 5
        with pytest.raises(Lost):
            Later(process).get()


def test_what_another_process_leaves_on_disk_is_removed_with_it(monkeypatch):
    """It is killed, and may keep readings for as long as it lives."""
    monkeypatch.setattr("pellucid.eval.processes._others", ContextVar("none", default=()))
    with begun(1):
        place = Path(Later(tempfile.mkdtemp).get())
        assert place.is_dir()
    assert not place.exists()


def test_a_ctrl_c_in_the_terminal_is_not_for_the_other_process(other):
    assert Later(os.getpgrp).get() != os.getpgrp()


@pytest.mark.slow
def test_the_other_process_finds_modules_and_computes_as_this_one(monkeypatch, tmp_path):
    """What lies in the working folder is no module of ours, and what is no text is no folder."""
    monkeypatch.setattr("pellucid.eval.processes._others", ContextVar("none", default=()))
    (tmp_path / "random.py").write_text("raise RuntimeError('of the working folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    torch.set_default_dtype(torch.float64)
    try:
        with begun(1):
            assert Later(process).get() != os.getpid()
            assert Later(torch.get_default_dtype).get() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_harvest_is_read_by_another_process_and_stays(other):
    values = np.random.default_rng(0).standard_normal((300, 40)).astype(np.float16)
    for sparse in (False, True):
        kept = Harvest.of(np.where(np.arange(40) < 4, values, 0) if sparse else values)
        assert kept.sparse == sparse
        there = Later(partial(kept.columns, [3, 1])).get()
        assert np.array_equal(there, kept.columns([3, 1]))
        assert np.array_equal(Later(partial(kept.rows, 7, 9)).get(), kept.rows(7, 9))


SCRIPT = """
from support.jobs import lasting
from pellucid.eval.processes import Later, begun
with begun(1):
    Later(lasting).outcome.result()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_other_process_ends_with_one_that_was_killed():
    """Also in the middle of a job."""
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | paths) as asking:
        number = int(asking.stdout.readline())  # said by the job itself
        asking.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60
    while _alive(number):
        assert time.monotonic() < until
        time.sleep(0.05)


def _alive(number: int) -> bool:
    """Whether a process runs; one that nobody has waited for has ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
