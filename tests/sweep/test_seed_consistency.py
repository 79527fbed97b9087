"""A grid that asks for it compares the units of an arm's seeds: once, in the end, and restartable."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.grids import BASE, start

from pellucid.cli import main
from pellucid.run import load
from pellucid.sweep import consistency, load_grid, local
from pellucid.sweep.folder import Failure, GridFolder

FILE = f"""\
from pellucid.sweep import Grid
grid = Grid(
    name="seeds",
    base={BASE!r},
    axes={{"k": ["mlp.k=3"]}},
    baselines={{}},
    seeds=(0, 1),
    suite="smoke",
    consistency=True,
)
"""


@pytest.fixture(scope="module")
def swept(kept_worker_of_module, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("seeds")
    (folder / "seeds.py").write_text(FILE)
    assert run(folder / "seeds.py", folder / "out") == 0
    return folder / "seeds.py", folder / "out"


def run(file: Path, out: Path) -> int:
    return main(["sweep", str(file), "--out", str(out), "--workers", "1"])


def scores(out: Path, cell: str) -> list[dict]:
    """The scores of a cell, without what was measured in seconds."""
    rows = json.loads((out / "cells" / cell / "scores.json").read_text())["scores"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def cells(out: Path) -> list[str]:
    found = sorted(path.name for path in (out / "cells").iterdir())
    assert len(found) == 2
    return found


def test_each_seed_is_scored_against_the_others_with_its_controls(swept):
    _, out = swept
    first, second = cells(out)
    for one, other in ((first, second), (second, first)):
        rows = [row for row in scores(out, one) if row["metric"] == consistency.METRIC]
        runs = [load(out / "cells" / name) for name in (one, other)]
        wanted = consistency.consistency(runs[0], runs[1:], suite="smoke", split="val")
        assert len(rows) == 2
        for row, score in zip(rows, wanted, strict=True):
            assert row["value"] == score.value > 0
            assert row["controls"]["random_twin"] == score.controls["random_twin"] > 0
        assert {row["metric"] for row in scores(out, one)} > {consistency.METRIC, "bits_per_byte"}


def test_what_a_kill_left_out_is_made_up_for_and_nothing_is_scored_twice(swept, monkeypatch):
    file, out = swept
    first, second = cells(out)
    before, kept = scores(out, second), (out / "cells" / first / "scores.json").read_bytes()
    path = out / "cells" / second / "scores.json"
    content = json.loads(path.read_text())
    content["scores"] = [s for s in content["scores"] if s["metric"] != consistency.METRIC]
    path.write_text(json.dumps(content))
    assert run(file, out) == 0
    assert scores(out, second) == before
    assert (out / "cells" / first / "scores.json").read_bytes() == kept
    monkeypatch.setattr(local, "_Worker", None)
    assert run(file, out) == 0


def test_an_arm_needs_two_seeds_that_have_not_failed(swept):
    file, out = swept
    grid, folder = load_grid(str(file)), GridFolder(out)
    assert consistency.waiting(grid, grid.cells(), folder) == []
    begun = GridFolder(out.parent / "begun")
    begun.failures.mkdir(parents=True)
    three = replace(grid, seeds=(0, 1, 2))
    first, second, third = (cell.name for cell in three.cells())
    begun.fail(second, Failure("its loss was not finite", 3, 1))
    found = consistency.waiting(three, three.cells(), begun)
    assert [(cell.name, cell.against) for cell in found] == [(first, (third,)), (third, (first,))]
    begun.fail(first, Failure("its loss was not finite", 3, 1))
    assert consistency.waiting(three, three.cells(), begun) == []
    assert consistency.waiting(replace(three, consistency=False), three.cells(), folder) == []


@pytest.mark.slow
def test_two_runners_of_bounded_calls_compare_each_cell_once(swept, tmp_path):
    """Weights are kept until the seeds were compared; what a cell is given is what one call gives."""
    file, whole = swept
    out = tmp_path / "out"
    words = "--workers", "1", "--slot", "10m"
    runners = [start(file, out, *words) for _ in range(2)]
    said = [runner.communicate(timeout=600)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], said
    again = start(file, out, *words)
    assert "comparing" not in again.communicate(timeout=600)[0] and again.returncode == 0
    for cell in cells(out):
        assert scores(out, cell) == scores(whole, cell)
        assert not (out / "cells" / cell / "checkpoints").exists()
