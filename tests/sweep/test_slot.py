"""A bounded call ends before its bound, leaves small files, and the next call goes on."""

import math
import statistics
import time
from collections import deque

import pytest
from support.grids import BASE, results, start, write

from pellucid.cli import main
from pellucid.commands.options import duration
from pellucid.report.grid import write_grid
from pellucid.run import RunFolder
from pellucid.sweep import load_grid, slot
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.slot import Pace, Slot, calls


class Told:
    """A pace that is told; cells are their names."""

    def __init__(self, **waits: float):
        self.waits = waits

    def left(self, cell: str) -> float:
        return self.waits[cell]


def taken(slot: Slot, *cells: str) -> str | None:
    return slot.take(deque(cells))


def test_a_cell_is_begun_where_it_fits():
    now = [0.0]
    slot = Slot(100, Told(a=60, b=30, c=500, d=0), clock=lambda: now[0])
    assert slot.usable == 90 and taken(slot, "a", "b") == "a"
    now[0] = 40.0
    assert taken(slot, "a", "b") == "b" and not slot.over
    now[0] = 70.0
    assert taken(slot, "a", "b") is None and taken(slot, "a", "d") == "d"
    # What is longer than any call is begun where a fifth of a call is left.
    assert taken(slot, "a", "c") == "c"
    now[0] = 73.0
    assert taken(slot, "a", "c") is None
    now[0] = 90.0
    assert slot.over
    assert Slot(7200, Told()).usable == 7140
    assert Slot(100, Told(), begun=-50, clock=lambda: 0.0).until == 40
    assert 40 < Slot(100, Told(), begun=-50, clock=lambda: 0.0).saved < 50


def test_cells_are_packed_into_calls():
    assert calls([30, 30, 30, 30], workers=2, usable=60) == [4]
    assert calls([30, 30, 30, 30], workers=1, usable=59) == [1, 1, 1, 1]
    assert calls([150, 10, 10], workers=1, usable=60) == [0, 0, 3]
    assert calls([150, 10, 10], workers=2, usable=60) == [2, 0, 1]
    assert calls([], workers=2, usable=60) == calls([0.0], workers=2, usable=60) == []


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("90s", 90), ("1.5h", 5400)])
def test_lengths_of_time_are_read(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--slot", "30"], "'30' is not a length of time such as 90s, 30m or 2h"),
        (["--slot", "0m"], "'0m' is not a length of time"),
        (["--slot", "5s"], "--slot of 5 seconds is too short: 20 or more"),
        (["--slot", "5m", "--engine", "slurm"], "--slot is of --engine local or ray"),
    ],
)
def test_a_bound_that_cannot_be_kept_is_refused(words, said, tmp_path, capsys):
    file = write(tmp_path)
    assert main(["sweep", str(file), "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_plan_counts_calls(tmp_path, capsys):
    words = ["--out", str(tmp_path / "out"), "--dry-run", "--slot", "30m", "--workers", "2"]
    assert main(["sweep", str(write(tmp_path)), *words]) == 0
    said = capsys.readouterr().out
    assert "in 1 calls of 29.0 minutes and time to save, which finish 4 cells" in said


def test_every_cell_is_looked_at_once_for_the_waits_of_all(tmp_path, monkeypatch):
    grid, looked = load_grid(str(write(tmp_path))), []
    folder = GridFolder(tmp_path / "out")
    monkeypatch.setattr(
        folder, "run", lambda name: looked.append(name) or RunFolder(tmp_path / name)
    )
    monkeypatch.setattr(slot, "FRESH", math.inf)
    pace = Pace(folder, cells := grid.cells(), grid.suite)
    for cell in cells:
        assert pace.scoring(cell) > 0
    assert looked == [cell.name for cell in cells] and len(looked) == 4


@pytest.mark.slow
def test_a_grid_is_finished_by_bounded_calls(tmp_path):
    """Cells longer than a call: saved at its end, finished by later ones, none with weights."""
    base = BASE.replace("train.steps=40", "train.steps=600").replace("every=3", "every=100")
    file = write(tmp_path, base.replace("eval_every=20", "eval_every=300"))
    file.write_text(file.read_text().replace("seeds=(0, 1)", "seeds=(0,)"))
    whole = start(file, tmp_path / "whole", "--workers", "2")
    said, _ = whole.communicate(timeout=600)
    assert whole.returncode == 0, said
    out, codes, spent = tmp_path / "out", [], []
    while 0 not in codes and len(codes) < 40:
        begun = time.monotonic()
        call = start(file, out, "--workers", "2", "--slot", "30s")
        said, _ = call.communicate(timeout=200)
        codes.append(call.returncode)
        spent.append(time.monotonic() - begun)
        assert call.returncode in (0, 75), said
    assert codes[-1] == 0 and (75 in codes or spent[0] < 30) and max(spent) < 35
    grid, folder, wanted = load_grid(str(file)), GridFolder(out), GridFolder(tmp_path / "whole")
    for cell in grid.cells():
        run, other = folder.run(cell.name), wanted.run(cell.name)
        assert not run.checkpoints.exists() and other.checkpoints.exists()
        assert [r["bits_per_byte"] for r in run.read_metrics() if r["kind"] == "val"] == [
            r["bits_per_byte"] for r in other.read_metrics() if r["kind"] == "val"
        ]
        scores = [[s["value"] for s in f.read_scores()["scores"]] for f in (run, other)]
        assert scores[0] == scores[1]
    sizes = sum(path.stat().st_size for path in folder.cells.rglob("*") if path.is_file())
    assert sizes < 2 * 2e6
    assert write_grid(out, tmp_path / "page.html").exists()
    pace = Pace(folder, grid.cells(), grid.suite)
    assert pace.left(grid.cells()[0]) == 0 and len(pace.trained) == len(pace.scored) == 2


@pytest.mark.slow
def test_a_finished_call_leaves_small_files_and_the_same_results(tmp_path):
    file = write(tmp_path, suite="quick")
    words = ["--workers", "2", "--slot", "10m"]
    assert main(["sweep", str(file), "--out", str(tmp_path / "out"), *words]) == 0
    folder, cells = GridFolder(tmp_path / "out"), load_grid(str(file)).cells()
    assert all(folder.state(cell.name, "quick") == "done" for cell in cells)
    assert not list(folder.cells.glob("*/checkpoints"))
    with pytest.raises(FileNotFoundError):
        results(tmp_path / "out")
    pace = Pace(folder, cells, "full")
    # Scored otherwise, a cell would take what scoring took here.
    assert 0 < pace.left(cells[0]) == statistics.median(pace.scored.values())
