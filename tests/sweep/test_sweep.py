"""A grid runs what is missing, survives kills, and never runs a cell twice."""

import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.grids import BASE, children, results, start, write

from pellucid.cli import main
from pellucid.errors import EXIT_USER
from pellucid.sweep import Grid, GridError, Tuning, load_grid, snapshot
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.run import sweep


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("grid")
    file = write(folder)
    assert main(["sweep", str(file), "--out", str(folder / "out"), "--workers", "1"]) == 0
    return file, folder / "out"


def test_a_grid_runs_every_cell_and_is_then_done(undisturbed, capsys):
    file, out = undisturbed
    # Every runner describes the grid, and is the only one to do so meanwhile.
    times = lambda: {
        path: path.stat().st_mtime_ns
        for path in out.rglob("*")
        if path.name not in ("grid.json", ".begin.lock")
    }
    before = times()
    assert main(["sweep", str(file), "--out", str(out)]) == 0
    assert "4 of 4 cells done" in capsys.readouterr().out
    assert before == times()
    held = json.loads((out / "grid.json").read_text())
    assert set(held["cells"]) == {path.name for path in (out / "cells").iterdir()}
    assert held["endpoints"] == ["bits_per_byte"]


def test_a_plan_starts_nothing(undisturbed, tmp_path, capsys):
    file, out = undisturbed
    assert main(["sweep", str(file), "--out", str(tmp_path / "new"), "--dry-run"]) == 0
    assert "k: 4 cells (4 missing)" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()
    assert main(["sweep", str(file), "--out", str(out), "--dry-run"]) == 0
    assert "4 cells (4 done)" in capsys.readouterr().out


def test_all_cells_run_the_code_the_grid_was_begun_with(undisturbed):
    _, out = undisturbed
    code = out / "code" / "pellucid"
    assert (code / "train.py").is_file() and (code / "report" / "templates").is_dir()
    hashes = {
        json.loads((run / "manifest.json").read_text())["source_sha256"]
        for run in (out / "cells").iterdir()
    }
    assert len(hashes) == 1


KILLS, WORKERS, LONG = 20, 2, 200
"""Kills, workers that may be killed, and steps of a cell."""
STOPPED = (75, -signal.SIGKILL, -signal.SIGTERM)
"""Exit codes of a runner that was killed, or had to stop."""


def saved(out: Path) -> dict[str, int]:
    """The newest checkpoint of every cell that has any."""
    newest: dict[str, int] = {}
    for path in out.glob("cells/*/checkpoints/step-*"):
        step = int(path.name.removeprefix("step-"))
        newest[path.parts[-3]] = max(step, newest.get(path.parts[-3], 0))
    return newest


def all_got_further(before: dict[str, int], now: dict[str, int], cells: int) -> bool:
    """Whether as many cells have saved something new as can be trained at once."""
    unfinished = cells - sum(step == LONG for step in before.values())
    return sum(step > before.get(name, 0) for name, step in now.items()) >= min(WORKERS, unfinished)


def kill_at_random(file: Path, out: Path, cells: int, seed: int) -> list[int]:
    """Kill the runner or one of its workers, again and again, and let the grid come to its end.

    A kill lands at a random time, every other one after something new was saved, and at the latest
    when too little would be left for the others. The third in a row before all got further is the
    runner's: at the third death of a cell that did not, it would rightly fail. What was saved before
    each kill, all cells together.
    """
    dice, runner, landed, in_a_row = random.Random(seed), start(file, out, "--workers", "2"), [], 0
    share = cells * LONG / (KILLS + 5)
    while len(landed) < KILLS:
        before, due = saved(out), time.monotonic() + dice.uniform(0.5, 6.0)
        while runner.poll() is None:
            further = all_got_further(before, now := saved(out), cells)
            moved = sum(now.values()) - sum(before.values())
            if (time.monotonic() >= due or moved >= share) and (moved or len(landed) % 2):
                break
            time.sleep(0.02)
        if runner.poll() is None:
            in_a_row = 1 if further else in_a_row + 1
            below = children(runner.pid) if in_a_row < 3 else []
            victim = dice.choice([runner.pid, *below])
            with suppress(ProcessLookupError):
                os.kill(victim, dice.choice([signal.SIGKILL, signal.SIGTERM]))
                landed.append(sum(now.values()))
            if victim != runner.pid:
                continue
        in_a_row = 0
        said, _ = runner.communicate(timeout=300)
        assert runner.returncode in STOPPED, said
        runner = start(file, out, "--workers", "2")
    while (said := runner.communicate(timeout=300)[0]) is not None and runner.returncode != 0:
        assert runner.returncode in STOPPED, said
        runner = start(file, out, "--workers", "2")
    return landed


def checkpoints(out: Path) -> set[Path]:
    """What cells have saved on their way, so that there is still something to be trained."""
    return {path for path in out.glob("cells/*/checkpoints/step-*") if path.name[-2:] != "40"}


def wait_for_another(runner: subprocess.Popen, out: Path) -> None:
    """Until a cell that is being trained has saved something new."""
    before = checkpoints(out)
    while runner.poll() is None and checkpoints(out) <= before:
        time.sleep(0.02)
    assert runner.poll() is None, runner.communicate()


def test_kills_leave_no_trace_in_what_is_found(undisturbed, tmp_path):
    """A worker is killed while it trains a cell, and then the runner while the next one does."""
    file, out = undisturbed
    runner = start(file, again := tmp_path / "out", "--workers", "1")
    wait_for_another(runner, again)
    [first] = children(runner.pid)
    os.kill(first, signal.SIGKILL)
    wait_for_another(runner, again)
    assert children(runner.pid) != [first]
    runner.kill()
    runner.communicate()
    runner = start(file, again, "--workers", "2")
    said, _ = runner.communicate(timeout=300)
    assert runner.returncode == 0, said
    assert results(again) == results(out)


@pytest.mark.slow
def test_twenty_kills_leave_no_trace_in_what_is_found(tmp_path):
    file = write(tmp_path, BASE.replace("train.steps=40", f"train.steps={LONG}"), "quick")
    whole = start(file, tmp_path / "whole", "--workers", "2")
    said, _ = whole.communicate()
    assert whole.returncode == 0, said
    landed = kill_at_random(file, tmp_path / "killed", cells=4, seed=2)
    assert len(landed) == KILLS and landed[-1] < 4 * LONG
    assert len(set(landed)) >= KILLS // 2
    assert results(tmp_path / "killed", LONG) == results(tmp_path / "whole", LONG)


@pytest.mark.slow
def test_two_runners_share_a_grid(undisturbed, tmp_path):
    file, out = undisturbed
    both = [start(file, tmp_path / "out", "--workers", "1") for _ in range(2)]
    said = [runner.communicate(timeout=300)[0] for runner in both]
    assert [runner.returncode for runner in both] == [0, 0], said
    assert results(tmp_path / "out") == results(out)
    begun = [
        path.read_text().count("parameters (") for path in (tmp_path / "out" / "logs").iterdir()
    ]
    assert begun == [1, 1, 1, 1]


def test_what_fails_is_listed_with_its_reason_and_not_tried_again(kept_worker, tmp_path, capsys):
    axes = {"lr": ["", "train.lr=1e30 train.warmup=0.0"]}
    grid = Grid(name="bad", base=BASE, axes=axes, seeds=[0], suite="smoke")
    assert sweep(grid, tmp_path / "out", workers=1) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 cells done" in said and "not finite" in said
    folder = GridFolder(tmp_path / "out")
    assert folder.failure("train.lr=1e30,train.warmup=0.0-seed0").code == 3
    log = folder.logs / "train.lr=1e30,train.warmup=0.0-seed0.log"
    size = log.stat().st_size
    assert sweep(grid, tmp_path / "out", workers=1) == 2
    assert log.stat().st_size == size
    assert sweep(grid, tmp_path / "out", workers=1, retry=True) == 2
    assert log.stat().st_size > size


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        ("import not_there", "exit code 1, ModuleNotFoundError: No module named 'not_there'"),
        ("def :", "exit code 1, SyntaxError: invalid syntax"),
    ],
)
def test_code_that_cannot_be_imported_is_named_as_the_reason(defect, said, tmp_path, capsys):
    folder = GridFolder(tmp_path / "out")
    grid = Grid(name="bad", base=BASE, seeds=[0])
    folder.open(grid, cells := grid.cells())
    snapshot.take(folder.code)
    with (folder.code / "pellucid" / "__init__.py").open("a") as code:
        code.write(f"{defect}\n")
    assert sweep(grid, folder.path, workers=1) == 2
    assert f"3 times without getting further: {said}\n" in capsys.readouterr().out
    assert folder.failure(cells[0].name).reason.endswith(said)
    assert not any(folder.logs.iterdir()) and not any(folder.cells.iterdir())


def test_what_code_prints_is_no_answer(kept, tmp_path):
    assert 'print("' in (kept.code / "pellucid" / "__init__.py").read_text()
    words = {"words": ["tiny", "n_layers=none"], "fit": None}
    answer = kept.ask({"path": str(tmp_path / "run"), "log": str(tmp_path / "log")} | words)
    assert answer["code"] == EXIT_USER and "n_layers" in answer["reason"]


def test_the_folder_of_another_grid_is_refused(undisturbed, tmp_path):
    file, out = undisturbed
    grid = load_grid(str(file))
    other = Grid(name="k", base=BASE, axes={"k": ["mlp.k=4"]}, endpoints=grid.endpoints)
    with pytest.raises(GridError, match="holds another grid"):
        sweep(other, out)
    changed = Grid(
        name="k", base=BASE, axes=grid.axes, seeds=grid.seeds, endpoints=("living_share",)
    )
    with pytest.raises(GridError, match="its endpoints are bits_per_byte"):
        sweep(changed, out)
    longer = replace(grid, base=f"{BASE} train.lr=0.1")
    with pytest.raises(GridError, match="mlp.k=2-seed0 is trained by other words"):
        sweep(longer, out)
    with pytest.raises(GridError, match="its margins are others"):
        sweep(replace(grid, margins={"bits_per_byte": 0.1}), out)
    with pytest.raises(GridError, match="it is tuned otherwise"):
        sweep(replace(grid, tune=Tuning(seeds=(9,))), out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(GridError, match="is not a grid and not empty"):
        sweep(grid, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
