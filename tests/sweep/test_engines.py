"""Engines refuse what they cannot do, and a cluster's losses leave no trace in a grid's folder."""

import json
import os
import re
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.grids import BASE

from pellucid.cli import main
from pellucid.errors import RunError, UserError
from pellucid.run import RunFolder
from pellucid.sweep import Grid, attempts, cluster, extras, on_ray, on_slurm, snapshot
from pellucid.sweep.engines import Place
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.job import job_of, run_cell, task_of
from pellucid.sweep.run import sweep
from pellucid.sweep.slot import Slot

GRID = Grid(name="k", base=BASE, axes={"k": ["mlp.k=2", "mlp.k=8"]}, seeds=(0,))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(cluster, "LOOK", 0.01)


@pytest.fixture
def folder(tmp_path) -> GridFolder:
    made = GridFolder(tmp_path / "out")
    made.open(GRID, GRID.cells())
    return made


class Planned:
    """A job that ends at once, having done what was planned for it."""

    def __init__(self, folder: GridFolder, job: dict, plan: str):
        self.folder, self.job, self.plan, self.cancelled = folder, job, plan, False
        if plan == "done":
            run = RunFolder(job["path"])
            tokenizer = SimpleNamespace(save=lambda path: path.write_text("{}"), sha256="0")
            manifest = {"data_fingerprint": "f", "finished": {"step": 1}}
            run.create({"format": 1, "data": {}, "model": {}, "train": {}}, manifest, tokenizer)

    def ended(self) -> bool:
        return self.plan not in ("waits", "stuck") or (self.cancelled and self.plan == "waits")

    def cancel(self) -> None:
        self.cancelled = True

    def reason(self) -> str:
        return "the node is gone"


class Plans:
    """A pool whose jobs end as planned: by cell, one word after another."""

    def __init__(self, folder: GridFolder, plans: dict[str, list[str]], at_once: int | None = None):
        self.folder, self.plans, self.at_once = folder, plans, at_once
        self.submitted: list[str] = []
        self.alive, self.closed, self.kept = [], False, {}

    def submit(self, jobs):
        assert self.at_once is None or len(jobs) <= self.at_once
        self.submitted += [job["name"] for job in jobs]
        self.alive = [Planned(self.folder, j, self.plans[j["name"]].pop(0)) for j in jobs]
        return self.alive

    def adopted(self):
        return self.kept

    def close(self):
        self.closed = True


A, B = (cell.name for cell in GRID.cells())


def engine(folder: GridFolder, pool: Plans, **bounds) -> cluster.ClusterEngine:
    told = {"suite": "", "split": "val", "threads": 1, **bounds}
    return cluster.ClusterEngine(folder, GRID.cells(), pool, **told)


def test_a_job_that_is_lost_is_submitted_again(folder):
    pool = Plans(folder, {A: ["lost", "lost", "done"], B: ["done"]})
    ran = engine(folder, pool)
    assert ran.run() == 0
    assert [folder.state(name, "") for name in (A, B)] == ["done", "done"]
    assert pool.submitted == [A, B, A, A] and pool.closed
    assert set(ran.board.ended) == {A, B}


def test_a_job_that_is_lost_three_times_has_failed(folder):
    pool = Plans(folder, {A: ["lost"] * 9, B: ["done"]}, at_once=1)
    assert engine(folder, pool).run() == 0
    assert pool.submitted.count(A) == attempts.DEATHS
    assert "3 times without getting further: the node is gone" in folder.failure(A).reason


def test_a_stop_withdraws_what_waits(folder):
    pool = Plans(folder, {A: ["waits"], B: ["done"]})
    ran = engine(folder, pool)
    assert ran.run(lambda board: ran.stop()) == 75
    assert [job.cancelled for job in pool.alive] == [True, False] and pool.closed
    assert folder.state(A, "") == "missing"


def test_what_does_not_fit_into_a_call_is_left_for_the_next(folder):
    pool = Plans(folder, {A: ["lost", "done"], B: ["done"]}, at_once=1)
    fits = lambda queue: next((queue.remove(c) or c for c in [*queue] if c.name == A), None)
    ran = engine(folder, pool, take=fits)
    assert ran.run() == 75 and not ran.stopping
    assert pool.submitted == [A, A] and pool.closed and folder.state(A, "") == "done"
    assert engine(folder, pool, take=lambda queue: None).run() == 75 and pool.submitted == [A, A]
    assert engine(folder, pool).run() == 0 and pool.submitted == [A, A, B]


def test_jobs_that_do_not_end_are_left_before_the_call_does(folder, monkeypatch):
    monkeypatch.setattr(cluster, "LEAVE", 3.0)
    pool, begun = Plans(folder, {A: ["stuck"], B: ["stuck"]}), time.monotonic()
    ran = engine(folder, pool, latest=begun + 0.2)
    assert ran.run(lambda board: ran.stop()) == 75
    assert 0.2 <= time.monotonic() - begun < 1.5
    assert [job.cancelled for job in pool.alive] == [True, True] and pool.closed


def test_a_slot_bounds_what_ray_is_given(folder, monkeypatch):
    pool, told = Plans(folder, {}), []
    monkeypatch.setattr(on_ray, "check", lambda address: None)
    monkeypatch.setattr(on_ray, "RayPool", lambda code, **words: told.append(words) or pool)
    monkeypatch.setattr(snapshot, "take", lambda code: "")
    monkeypatch.setattr(Slot, "take", lambda slot, queue: None)
    assert sweep(GRID, folder.path, engine="ray", slot=20.0) == 75
    assert told[0]["bounded"] and pool.closed and not pool.submitted
    slot = Slot(100.0, pace=None)
    ran = Place(engine="ray").build(folder, GRID, GRID.cells(), 2, slot)
    assert ran.latest == slot.saved < slot.until + 10
    Place(engine="ray").build(folder, GRID, GRID.cells(), 2)
    assert not told[-1]["bounded"]


@pytest.mark.parametrize(
    ("has", "told", "at_once"),
    [
        ({"CPU": 9.0}, {"threads": 2}, 4),
        ({"CPU": 1.0}, {"threads": 2}, 1),
        ({"CPU": 8.0}, {"workers": 3}, 3),
        ({"CPU": 2.0}, {"workers": 3}, 2),
        ({"CPU": 64.0, "GPU": 2.0}, {}, 2),
        ({"CPU": 64.0, "GPU": 1.0}, {"gpus": 1 / 49}, 49),
    ],
)
def test_a_bounded_call_gives_ray_what_it_runs_at_once(has, told, at_once, tmp_path, monkeypatch):
    remote = lambda **options: lambda function: function
    about = {"init": lambda **_: None, "cluster_resources": lambda: has, "remote": remote}
    monkeypatch.setattr(on_ray, "required", lambda *words: SimpleNamespace(**about))
    asked = {"address": "auto", "workers": None, "threads": 1, "gpus": None, **told}
    assert on_ray.RayPool(tmp_path, bounded=True, **asked).at_once == at_once
    assert on_ray.RayPool(tmp_path, **asked).at_once == told.get("workers")


def test_a_cell_that_another_process_holds_is_waited_for(folder):
    pool, seen = Plans(folder, {A: ["done"], B: ["done"]}), []
    ran = engine(folder, pool)
    with folder.claim(A) as mine:
        assert mine
        told = iter([lambda: None] * 5)

        def watch(board):
            seen.append((set(board.elsewhere), list(pool.submitted)))
            if next(told, None) is None:
                ran.stop()

        assert ran.run(watch) == 75
    assert seen[-1] == ({A}, [B])
    assert engine(folder, pool).run() == 0 and pool.submitted == [B, A]


def test_what_an_earlier_runner_submitted_is_watched(folder):
    pool = Plans(folder, {B: ["done"]})
    pool.kept = {A: Planned(folder, {}, "waits"), "of another grid": None}
    ran = engine(folder, pool)

    def watch(board):
        if A in ran.jobs:
            ran.jobs[A].plan = "over"
            Planned(folder, {"path": str(folder.run(A).path)}, "done")

    assert ran.run(watch) == 0
    assert pool.submitted == [B] and folder.state(A, "") == "done"


def test_a_job_does_nothing_for_a_cell_that_is_done_or_held(folder, tmp_path):
    cell = GRID.cells()[0]
    task = task_of(folder, cell, suite="", split="val", threads=1)
    job = job_of(task, folder, cell.name, 1)
    json.dumps(job)
    with folder.claim(A):
        assert run_cell(job) == 0 and folder.state(A, "") == "missing"
    Planned(folder, job, "done")
    assert run_cell(job) == 0 and not (folder.logs / f"{A}.log").exists()
    with pytest.raises(RunError, match="does not see .*: give --out a folder that all machines"):
        run_cell(job | {"grid": str(tmp_path / "elsewhere")})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "slrum"], "--engine 'slrum' is not accepted; did you mean slurm?"),
        (["--partition", "gpu"], "--partition is of --engine slurm, not of local"),
        (["--engine", "slurm", "--address", "auto"], "--address is of --engine ray"),
        (["--gpus", "1"], "of this machine --per-gpu is"),
        (["--engine", "ray", "--sbatch", "qos=x"], "--sbatch is of --engine slurm"),
        (["--minutes", "30"], "--minutes is of --engine slurm, not of local"),
        (["--engine", "ray", "--minutes", "30"], "--minutes is of --engine slurm, not of ray"),
        (["--engine", "slurm", "--per-gpu", "2"], "--per-gpu is of --engine local or ray"),
    ],
)
def test_words_of_another_engine_are_refused(words, said, tmp_path, capsys):
    file = tmp_path / "grid.py"
    file.write_text(f"from pellucid.sweep import Grid\ngrid = Grid(name='k', base={BASE!r})")
    assert main(["sweep", str(file), "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_without_its_extra_an_engine_says_so(name, module, tmp_path, monkeypatch):
    def missing(asked):
        raise ModuleNotFoundError(asked)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(UserError, match=rf"needs {module}: pip install 'pellucid\[{name}\]'"):
        sweep(GRID, tmp_path / "out", engine=name)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def installed(monkeypatch):
    """As if both extras were installed, of which nothing is used before a cluster answers."""
    for module in (on_ray, on_slurm):
        monkeypatch.setattr(module, "required", lambda *words: SimpleNamespace())


def test_a_machine_without_slurm_is_told(installed, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(UserError, match="there is no Slurm on this machine: sbatch was not found"):
        sweep(GRID, tmp_path / "out", engine="slurm")
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    with pytest.raises(UserError, match="--sbatch 'qos' is not accepted; NAME=VALUE is"):
        sweep(GRID, tmp_path / "out", engine="slurm", sbatch=["qos"])
    assert not (tmp_path / "out").exists()


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """Programs of Slurm's names, each of which leaves a file where it was run."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sbatch", "srun", "sinfo"):
        (tools / name).write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/ran-{name}\n')
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return tools


NOBODY = "slurm_load_partitions: Unable to contact slurm controller (connect failure)"


@pytest.mark.parametrize(
    ("sinfo", "answer", "said"),
    [
        (f"echo 'sinfo: error: once more' >&2; echo '{NOBODY}' >&2; exit 1", 60, re.escape(NOBODY)),
        ("exit 3", 60, "sinfo ended with exit code 3"),
        ("exec sleep 60", 0.5, "sinfo waited 0.5 s"),
    ],
)
def test_a_slurm_whose_controller_is_silent_is_told(
    sinfo, answer, said, installed, programs, tmp_path, monkeypatch
):
    monkeypatch.setattr(on_slurm, "ANSWER", answer)
    (programs / "sinfo").write_text(f"#!/bin/sh\n{sinfo}\n")
    with pytest.raises(UserError, match=f"^no controller of Slurm answers: {said}$"):
        sweep(GRID, tmp_path / "out", engine="slurm")
    assert list(tmp_path.iterdir()) == [programs]


def test_a_slurm_that_answers_is_only_asked(installed, programs, tmp_path):
    Place(engine="slurm").reach()
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "ran-sinfo"}


def test_an_address_where_nothing_answers_is_told(installed, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(UserError, match=f"no Ray cluster answers at 127.0.0.1:{port}: "):
        sweep(GRID, tmp_path / "out", engine="ray", address=f"127.0.0.1:{port}")
    for address in ("head", "head:port", ":1"):
        with pytest.raises(UserError, match="is not accepted; auto or HOST:PORT is"):
            sweep(GRID, tmp_path / "out", engine="ray", address=address)
    assert time.monotonic() - begun < 5 and not (tmp_path / "out").exists()


def test_a_cluster_that_cannot_be_joined_is_told_before_anything_is_written(tmp_path, monkeypatch):
    def init(**_):
        raise ConnectionError("Could not find any running\n Ray instance")

    monkeypatch.setattr(on_ray, "required", lambda *words: SimpleNamespace(init=init))
    said = "no Ray cluster could be joined at auto: Could not find any running Ray instance"
    with pytest.raises(UserError, match=said):
        sweep(GRID, tmp_path / "out", engine="ray", address="auto")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (
            RuntimeError("failed to import:\n\n  File …\nModuleNotFoundError: no x\n"),
            "ModuleNotFoundError: no x",
        ),
        (AssertionError(), "AssertionError"),
    ],
)
def test_the_reason_is_the_last_line_of_what_ray_says(cause, said):
    class TaskError(Exception):
        def __init__(self):
            self.cause = cause

    def get(_):
        raise TaskError

    ray = SimpleNamespace(get=get, exceptions=SimpleNamespace(RayTaskError=TaskError))
    assert on_ray.RayTask(ray, None).reason() == said


def test_how_many_cells_run_at_once():
    assert Place(workers=3).at_once(100) == 3
    assert Place(engine="slurm").at_once(100) == 100
    assert Place(engine="ray", address="auto").at_once(7) == 7
    assert Place(threads=10**6).at_once(100) == 1
