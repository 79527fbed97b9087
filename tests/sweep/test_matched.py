"""Matched baselines: solved for once, whatever kills the runner, and told by the runs they became."""

import json
from dataclasses import replace
from itertools import count

import pytest
import torch
from support.grids import BASE
from support.training import SMALL

from pellucid.cli import main
from pellucid.config import identity_hash
from pellucid.errors import EXIT_OK, EXIT_USER, RunError
from pellucid.experiments import matching, run_config
from pellucid.report.grid import write_grid
from pellucid.report.grid.reading import read_grid
from pellucid.storage import files
from pellucid.sweep import Grid, matched
from pellucid.sweep import run as runner
from pellucid.sweep.folder import GridFolder

GRID = Grid(name="g", base="tiny", baselines={"d": "match=dense by=step_time"}, seeds=(0, 1))


class Killed(BaseException):
    """The end of a process, wherever it is."""


@pytest.fixture
def clock(monkeypatch):
    """Steps that take another time at every match; how many there were."""
    matches = []

    def times(target, found):
        if found.model.mlp.width == 4 * found.model.d_model:
            matches.append(found)
        return [400.0 + 100 * len(matches)] * 9, [float(found.model.mlp.width)] * 9

    monkeypatch.setattr(matching, "_Timer", lambda: times)
    return matches


@pytest.fixture
def unrun(monkeypatch):
    """Grids that are begun, and whose cells nobody runs."""
    monkeypatch.setattr(runner, "_in_turn", lambda *_: EXIT_OK)
    monkeypatch.setattr(runner.snapshot, "take", lambda _: "")


def die_at(monkeypatch, number: int) -> None:
    """Kill the runner at one of the changes that it makes to the disk, half a file being written."""
    changes, replaced, made = count(), files.replace, GridFolder._make

    def replace_file(path, data):
        if next(changes) == number:
            path.with_name(f".tmp-1-{path.name}").write_bytes(data[:10])
            raise Killed
        replaced(path, data)

    def make(folder):
        if next(changes) == number:
            folder.cells.mkdir(parents=True, exist_ok=True)
            raise Killed
        made(folder)

    monkeypatch.setattr(files, "replace", replace_file)
    monkeypatch.setattr(GridFolder, "_make", make)


def widths(out) -> set[str]:
    cells = json.loads((out / "grid.json").read_text())["cells"]
    return {word for cell in cells.values() for word in cell["words"] if "width" in word}


@pytest.mark.parametrize("number", range(4))
def test_a_runner_that_was_killed_while_it_began_goes_on(
    number, clock, unrun, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        die_at(patch, number)
        with pytest.raises(Killed):
            runner.sweep(GRID, out, workers=1)
    told = matched.remembered(out, GRID)
    assert runner.sweep(GRID, out, workers=1) == EXIT_OK
    first, matches = widths(out), len(clock)
    assert len(first) == 1 and (not told or first == {told["d"].words[-1]})
    # Steps take longer by now: what was found stands.
    assert runner.sweep(GRID, out, workers=1) == EXIT_OK
    assert widths(out) == first and len(clock) == matches


def test_the_last_of_these_kills_comes_when_all_is_written(clock, unrun, tmp_path, monkeypatch):
    die_at(monkeypatch, 4)
    assert runner.sweep(GRID, tmp_path / "out", workers=1) == EXIT_OK


def test_of_two_runners_that_begin_the_first_ones_match_stands(clock, unrun, tmp_path):
    one, two = GRID.matches({}), GRID.matches({})
    assert one["d"].words != two["d"].words
    first = GridFolder(tmp_path).begin(GRID, one)
    assert GridFolder(tmp_path).begin(GRID, two) == first


def test_a_match_is_of_its_base(clock, tmp_path):
    GridFolder(tmp_path).begin(GRID, GRID.matches({}))
    assert matched.remembered(tmp_path, GRID)
    assert matched.remembered(tmp_path, replace(GRID, base="tiny mlp.k=8")) == {}


def test_what_an_earlier_version_remembered_is_read(clock, unrun, tmp_path):
    """It wrote no facts, and a sign before each word."""
    assert runner.sweep(GRID, tmp_path, workers=1) == EXIT_OK
    first, held = widths(tmp_path), json.loads((tmp_path / matched.FILE).read_text())
    before = {"asked": held["d"]["asked"], "words": [f"={word}" for word in held["d"]["words"]]}
    (tmp_path / matched.FILE).write_text(json.dumps({"d": before}))
    assert runner.sweep(GRID, tmp_path, workers=1) == EXIT_OK
    assert widths(tmp_path) == first and len(clock) == 1
    cells = GRID.cells(matched.remembered(tmp_path, GRID))
    assert all(cell.matched is None for cell in cells)


@pytest.mark.parametrize("entry", ["wide", {"words": ["tiny"]}, {"asked": ["tiny"], "words": [1]}])
def test_a_file_that_remembers_something_else_is_a_sentence(entry, clock, tmp_path):
    (tmp_path / matched.FILE).write_text(json.dumps({"d": entry}))
    with pytest.raises(RunError, match=r"matched.json, d says neither what was asked nor which"):
        runner.sweep(GRID, tmp_path, workers=1)


def test_steps_are_timed_with_the_threads_of_a_cell(clock, unrun, tmp_path, monkeypatch):
    timer, seen, before = matching._Timer, [], torch.get_num_threads()

    def counted():
        seen.append(torch.get_num_threads())
        return timer()

    monkeypatch.setattr(matching, "_Timer", counted)
    assert runner.sweep(GRID, tmp_path / "out", workers=1, threads=before + 1) == EXIT_OK
    assert seen == [before + 1] and torch.get_num_threads() == before


def test_a_cluster_that_is_not_there_is_said_before_a_step_is_timed(clock, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    file = tmp_path / "g.py"
    file.write_text(
        "from pellucid.sweep import Grid\n"
        "grid = Grid(name='g', baselines={'d': 'match=dense by=step_time'})\n"
    )
    out = tmp_path / "out"
    assert main(["sweep", str(file), "--out", str(out), "--engine", "ray"]) == EXIT_USER
    assert not clock and not out.exists()


def test_the_manifest_of_a_baseline_says_what_it_is_one_of(tmp_path, capsys):
    run = tmp_path / "run"
    words = [*SMALL, "match=dense", "by=active", f"run={run}"]
    assert main(["train", *words]) == EXIT_OK
    facts = json.loads((run / "manifest.json").read_text())["matched"]
    assert facts["by"] == "active" and facts["to"] == ["tiny", *SMALL[1:]]
    assert facts["to_identity"] == identity_hash(run_config(SMALL)) and facts["filling"] == "dense"
    theirs, ours = facts["sizes"]["active"]
    assert facts["ratio"] == pytest.approx(ours / theirs) == pytest.approx(1, abs=0.01)
    account = json.loads((run / "manifest.json").read_text())["account"]
    assert account["active"] == pytest.approx(ours, rel=0.01)


def test_a_run_that_was_matched_by_time_is_resumed_by_the_same_command(
    clock, tmp_path, capsys, monkeypatch
):
    words = [*SMALL, "match=dense", "by=step_time", f"run={tmp_path / 'run'}"]
    assert main(["train", *words]) == EXIT_OK
    assert main(["train", *words]) == EXIT_OK and len(clock) == 1
    assert "is finished" in capsys.readouterr().out
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", *words[:-1], f"run={tmp_path / 'other'}"]) == EXIT_USER
    assert "measured by one process" in capsys.readouterr().err


@pytest.fixture(scope="module")
def swept(kept_worker_of_module, tmp_path_factory):
    out = tmp_path_factory.mktemp("matched") / "out"
    base = BASE.replace("train.steps=40", "train.steps=4")
    baselines = {"d": "match=dense by=active", "plain": "train.lr=0.001"}
    grid = Grid(name="m", base=base, baselines=baselines, seeds=(0,), suite="smoke")
    assert runner.sweep(grid, out, workers=1) == EXIT_OK
    return out


def test_the_cells_of_a_grid_say_what_they_were_matched_with(swept, tmp_path):
    manifests = {
        cell.name: json.loads((cell / "manifest.json").read_text())
        for cell in (swept / "cells").iterdir()
    }
    facts = manifests["d-seed0"]["matched"]
    assert facts["by"] == "active" and facts["to"] == [
        "tiny",
        *BASE.replace("=40", "=4").split()[1:],
    ]
    assert [name for name, held in manifests.items() if "matched" in held] == ["d-seed0"]
    said = {cell.label: cell.matched for cell in read_grid(swept).cells}
    assert said["d"].startswith("matched by active to tiny ") and said["plain"] is None
    assert f"{facts['ratio']:.4f} of it" in said["d"]
    page = write_grid(swept, tmp_path / "page.html").read_text()
    assert page.count("matched by active to tiny") == 1
