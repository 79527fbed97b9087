"""The runs of a grid's tuning: from its arms to trials, and from trials to tuned cells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pellucid.errors import EXIT_NONFINITE, RunError
from pellucid.experiments import run_config
from pellucid.storage import files
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import Cell, Grid, cell_name
from pellucid.sweep.tuning import METRIC, SELECTED_BY, SPLIT, Point, Tuning, at_edge, chosen, wanted

UNSCORED = ""
"""The suite of trials: they are trained and validated, and nothing else."""
FORMAT = 1


@dataclass
class Search:
    """One arm's search: the cell of its first reported seed, and what was found."""

    arm: Cell
    dial: Sequence[str]
    curve: dict[Point, float | None] = field(default_factory=dict)
    defect: str = ""
    """why a trial could not be run, other than that it diverged"""


def trials(search: Search, points: Sequence[Point], tuning: Tuning) -> list[Cell]:
    """The runs of points, one for each tuning seed."""
    return [_trial(search.arm, point, tuning, seed) for point in points for seed in tuning.seeds]


def _trial(arm: Cell, point: Point, tuning: Tuning, seed: int) -> Cell:
    told = [*told_by(point, tuning), *tuning.words.split()]
    words = [*_unseeded(arm.words), *told, f"seed={seed}"]
    config = run_config(words)
    values = {**arm.values, "trial": " ".join(told)}
    name = cell_name(values, config)
    return Cell(name, tuple(words), config, values, seed, matched=arm.matched)


def told_by(point: Point, tuning: Tuning) -> list[str]:
    """The words of a point."""
    return [f"{tuning.name}={point.rate:g}", *point.dial.split()]


def _unseeded(words: Sequence[str]) -> list[str]:
    return [word for word in words if not word.startswith("seed=")]


def searches(grid: Grid, cells: Sequence[Cell]) -> list[Search]:
    """One for each arm that is trained; what is fitted chooses among rates of its own."""
    first = {cell.arm: cell for cell in reversed(cells)}
    arms = [cell for cell in cells if first[cell.arm] is cell and not cell.fit]
    return [Search(cell, grid.tune.dial_of(cell.values)) for cell in arms]


def first_round(grid: Grid, cells: Sequence[Cell]) -> list[Cell]:
    """The trials that every search begins with."""
    begun = searches(grid, cells)
    return [c for s in begun for c in trials(s, wanted({}, grid.tune, s.dial), grid.tune)]


def tuned(
    grid: Grid,
    cells: Sequence[Cell],
    folder: GridFolder,
    run: Callable[[Grid, Sequence[Cell]], int],
) -> tuple[int, list[Cell]]:
    """Search with `run(grid, trials)` until every arm has its rate; the cells that are told it.

    The exit code is that of a `run` which was stopped. Writes `tuning.json`. Arms of which no trial
    could be used keep their words, and are marked as untuned.
    """
    unscored = replace(grid, suite=UNSCORED, tune=None)
    begun = searches(grid, cells)
    while open_ := [s for s in begun if not s.defect and wanted(s.curve, grid.tune, s.dial)]:
        points = {s.arm.arm: wanted(s.curve, grid.tune, s.dial) for s in open_}
        todo = [c for s in open_ for c in trials(s, points[s.arm.arm], grid.tune)]
        if code := run(unscored, todo):
            return code, []
        for search in open_:
            for point in points[search.arm.arm]:
                _read(search, point, grid.tune, folder)
        files.write_json(folder.path / "tuning.json", _told(begun, grid.tune), RunError)
    found = {s.arm.arm: chosen(s.curve) for s in begun if not s.defect}
    return 0, [_tuned(cell, found.get(cell.arm), grid.tune) for cell in cells]


def _read(search: Search, point: Point, tuning: Tuning, folder: GridFolder) -> None:
    """Put a point on the curve: the mean over its seeds."""
    bits = []
    for cell in trials(search, [point], tuning):
        if folder.state(cell.name, UNSCORED) == "failed":
            failure = folder.failure(cell.name)
            search.defect = "" if failure.code == EXIT_NONFINITE else failure.reason
            search.curve[point] = None
            return
        rows = [row for row in folder.run(cell.name).read_metrics() if row["kind"] == "val"]
        bits.append(max(rows, key=lambda row: row["step"])[METRIC])
    search.curve[point] = None if None in bits else sum(bits) / len(bits)


def _tuned(cell: Cell, point: Point | None, tuning: Tuning) -> Cell:
    """A cell of the same name that is told what was chosen."""
    if point is None:
        return cell
    words = [*_unseeded(cell.words), *told_by(point, tuning), f"seed={cell.seed}"]
    told = replace(cell, words=tuple(words), config=run_config(words), selected_by=SELECTED_BY)
    return replace(told, untuned=cell)


def _told(begun: Sequence[Search], tuning: Tuning) -> dict[str, Any]:
    about = {"format": FORMAT, "by": METRIC, "split": SPLIT, "field": tuning.name}
    return {**about, "seeds": list(tuning.seeds), "arms": [_arm(s, tuning) for s in begun]}


def _arm(search: Search, tuning: Tuning) -> dict[str, Any]:
    best = None if search.defect else chosen(search.curve)
    points = sorted(search.curve.items())
    return {
        "values": dict(search.arm.values),
        "curve": [{"rate": p.rate, "dial": p.dial, "bits": bits} for p, bits in points],
        "chosen": None if best is None else best._asdict(),
        "at_edge": at_edge(search.curve),
        "runs": len(search.curve) * len(tuning.seeds),
        "defect": search.defect,
    }
