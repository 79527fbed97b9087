"""What a ladder of dense baselines says of a grid's arms: how large a dense model is as good."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import RunError
from pellucid.experiments.ladder import LEAST, LadderError, size_at
from pellucid.report.grid.reading import CellFiles, GridFiles, read_grid
from pellucid.run import RunFolder
from pellucid.storage import files
from pellucid.sweep.statistics import mean_interval

FILE, FORMAT = "matched-by-loss.json", 1
METRIC = "bits_per_byte"


@dataclass(frozen=True, kw_only=True)
class Equal:
    """The dense model that is as good as an arm, or why none is known."""

    arm: str
    own: float | None = None
    """parameters of the arm itself"""
    parameters: float | None = None
    """of the dense model: the geometric mean over seeds"""
    low: float | None = None
    high: float | None = None
    """95 % interval over seeds, of Student's t on logarithms"""
    seeds: int = 0
    reason: str = ""

    @property
    def line(self) -> str:
        """The finding in a line."""
        if self.parameters is None:
            return f"  {self.arm}: no dense model is known to be as good: {self.reason}"
        spread = f" ({self.low:,.0f} … {self.high:,.0f})" if self.low is not None else ""
        return (
            f"  {self.arm}: a dense model of {self.parameters:,.0f} parameters{spread} is as good; "
            f"it has {self.own:,.0f}"
        )


def has_ladder(baselines: Mapping[str, str]) -> bool:
    """Whether a grid's baselines hold a ladder."""
    return sum("rung=" in value for value in baselines.values()) >= LEAST


def compared(path: Path) -> list[Equal]:
    """Every arm of a finished grid beside its ladder; also written to `matched-by-loss.json`.

    A rung that is not trained to its end and scored is not used, and without it there is no match.
    """
    grid = read_grid(path)
    rungs = {name for name, value in grid.grid["baselines"].items() if "rung=" in value}
    arms: dict[str, list[CellFiles]] = {}
    for cell in grid.cells:
        if cell.values.get("baseline") not in rungs:
            arms.setdefault(cell.label, []).append(cell)
    ladder = [cell for cell in grid.cells if cell.values.get("baseline") in rungs]
    found = [_equal(grid, name, cells, ladder) for name, cells in arms.items()]
    told = [vars(equal) for equal in found]
    files.write_json(path / FILE, {"format": FORMAT, "by": METRIC, "arms": told}, RunError)
    return found


def _equal(
    grid: GridFiles, name: str, cells: Sequence[CellFiles], ladder: Sequence[CellFiles]
) -> Equal:
    """Interpolated seed by seed: an arm and the rungs of its seed share their data's order."""
    try:
        sizes = [size_at(_bits(cell), _rungs(grid, cell, ladder)) for cell in cells]
    except LadderError as error:
        return Equal(arm=name, reason=str(error))
    over = mean_interval([math.log(size) for size in sizes])
    ends = [None if end is None else math.exp(end) for end in (over.low, over.high)]
    about: dict[str, Any] = {"own": _size(grid, cells[0]), "parameters": math.exp(over.value)}
    return Equal(arm=name, low=ends[0], high=ends[1], seeds=over.n, **about)


def _rungs(grid: GridFiles, cell: CellFiles, ladder: Sequence[CellFiles]) -> dict[float, float]:
    of_seed = [rung for rung in ladder if rung.seed == cell.seed]
    for rung in of_seed:
        if rung.key != cell.key:
            raise LadderError(f"{rung.name} was trained on other data or from other weights")
    return {_size(grid, rung): _bits(rung) for rung in of_seed}


def _bits(cell: CellFiles) -> float:
    if cell.state != "done":
        raise LadderError(f"{cell.name} is {cell.state}: {cell.reason}")
    if METRIC not in cell.metrics:
        raise LadderError(f"{cell.name} has no {METRIC}")
    return cell.metrics[METRIC]


def _size(grid: GridFiles, cell: CellFiles) -> float:
    return float(RunFolder(grid.path / "cells" / cell.name).read_manifest()["account"]["total"])
