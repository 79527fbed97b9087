"""A grid's folder: which grid it is of, its cells' runs, what failed and why."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pellucid import checkpoint
from pellucid.errors import RunError
from pellucid.run import RunFolder
from pellucid.storage import files, locking
from pellucid.sweep import consistency, matched
from pellucid.sweep.grid import Cell, Grid, GridError
from pellucid.sweep.matched import Matched
from pellucid.sweep.tuning import Tuning

FORMAT = 1
BEGINNING = ".begin"
"""Claim of the runner that writes what the grid is; no cell has this name."""
State = Literal["missing", "begun", "trained", "done", "failed"]
"""missing: never begun; trained: to be scored; failed: for a reason that trying again keeps."""


@dataclass(frozen=True)
class Failure:
    """Why a cell has no scores."""

    reason: str
    code: int
    attempts: int


class GridFolder:
    """`grids/<name>/`: `grid.json`, `cells/<cell>/` (runs), `failures/`, `logs/`, `claims/`."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.grid_file = self.path / "grid.json"
        self.cells = self.path / "cells"
        self.failures, self.logs = self.path / "failures", self.path / "logs"
        self.claims, self.code = self.path / "claims", self.path / "code"

    def check(self, grid: Grid, cells: Sequence[Cell] | None = None) -> None:
        """Raise GridError, and write nothing, where the folder is another grid's or none's.

        Without the cells, which take a while to match, as far as can be told.
        """
        with files.explained(RunError, f"look into the folder {self.path}"):
            held = [file.name for file in self.path.iterdir()] if self.path.exists() else []
        if self.grid_file.name not in held:
            # A runner that was killed while it began leaves its folders, and what it matched.
            ours = {f.name for f in self._folders} | {matched.FILE}
            if any(name not in ours and not name.startswith(".tmp-") for name in held):
                raise GridError(f"{self.path} is not a grid and not empty: give another folder")
        elif what := _other(self.read(), describe(grid, cells or ()), whole=cells is not None):
            raise GridError(
                f"{self.path} holds another grid ({what}): give another folder; cells may be added "
                f"to a grid, but what is there keeps its words, its endpoints and its tuning"
            )

    def begin(self, grid: Grid, found: Mapping[str, Matched]) -> list[Cell]:
        """Open the folder for a grid of which `found` was matched; the cells, by what stands.

        What was matched is written before the grid that is made of it: a runner that is killed in
        between matches nothing else when it comes back. Of two runners the first one's stands.
        """
        self._make()
        with self._alone():
            found = {**found, **matched.remembered(self.path, grid)}
            cells = grid.cells(found)
            self.check(grid, cells)
            matched.remember(self.path, grid, found)
            self.open(grid, cells)
        return cells

    def open(self, grid: Grid, cells: Sequence[Cell]) -> None:
        """Create the folder, or go on with it; raises GridError where it is another grid's."""
        self.check(grid, cells)
        self._make()
        files.write_json(self.grid_file, describe(grid, cells), RunError)

    def _make(self) -> None:
        with files.explained(RunError, f"create the folder {self.path}"):
            for folder in self._folders:
                folder.mkdir(parents=True, exist_ok=True)

    @property
    def _folders(self) -> tuple[Path, ...]:
        return self.cells, self.failures, self.logs, self.claims

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for other runners that begin."""
        while True:
            with self.claim(BEGINNING) as mine:
                if mine:
                    yield
                    return
            time.sleep(0.1)

    def read(self) -> dict[str, Any]:
        """What `grid.json` holds."""
        keys = ("format", "name", "cells", "endpoints", "seeds")
        return files.read_object(self.grid_file, keys, RunError)

    def run(self, name: str) -> RunFolder:
        """The folder of a cell's run."""
        return RunFolder(self.cells / name)

    def state(self, name: str, suite: str) -> State:
        """What is left to do for a cell; with no suite it need not be scored.

        With a suite `…+seeds` it is also to be compared with the other seeds of its arm.
        """
        run = self.run(name)
        if (self.failures / f"{name}.json").exists():
            return "failed"
        if not run.exists():
            return "missing"
        if not run.is_finished:
            return "begun"
        if not suite:
            return "done"
        scores, end = run.read_scores() or {}, run.read_manifest()["finished"].get("step")
        scored = consistency.plain(suite), end
        done = (scores.get("suite"), scores.get("checkpoint")) == scored
        return "done" if done and (suite == scored[0] or consistency.has(scores)) else "trained"

    def failure(self, name: str) -> Failure:
        keys = ("reason", "code", "attempts")
        found = files.read_object(self.failures / f"{name}.json", keys, RunError)
        return Failure(**{key: found[key] for key in keys})

    def fail(self, name: str, failure: Failure) -> None:
        """Remember why a cell failed; it is not tried again until that is forgotten."""
        files.write_json(self.failures / f"{name}.json", asdict(failure), RunError)

    def forget_failures(self) -> None:
        """Try again what has failed."""
        for file in self.failures.glob("*.json"):
            file.unlink()

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether this process may run the cell: no other process does while this lasts.

        Raises RunError where the lock cannot be had at all: waiting for it would have no end.
        """
        try:
            held = locking.exclusive(self.claims / f"{name}.lock")
            held.__enter__()
        except locking.InUseError:
            yield False
            return
        try:
            yield True
        finally:
            held.__exit__(None, None, None)

    def lighten(self, name: str) -> None:
        """Keep of a cell what it found: its weights and what was recorded of them go."""
        run = self.run(name)
        for folder in (run.checkpoints, run.cache):
            if folder.exists():
                files.discard(folder)

    def progress(self, name: str) -> float:
        """Share of a cell's training that its metrics show."""
        run = self.run(name)
        if not run.exists():
            return 0.0
        steps = run.read_config()["train"]["steps"]
        rows = run.read_metrics()
        at = max((row["step"] for row in rows if "step" in row), default=0)
        return at / steps

    def saved(self, name: str) -> int:
        """The newest step a cell has saved; -1 where there is none."""
        found = checkpoint.steps(self.run(name).checkpoints)
        return found[-1] if found else -1


def _other(found: Mapping[str, Any], wanted: Mapping[str, Any], *, whole: bool) -> str:
    """What makes a folder's grid another one than what is wanted; nothing where it is the same.

    Cells are compared where the wanted grid is given with them (`whole`).
    """
    if found["name"] != wanted["name"]:
        return f"its name is {found['name']}"
    if found["endpoints"] != wanted["endpoints"]:
        return f"its endpoints are {', '.join(found['endpoints']) or 'none'}"
    if found.get("margins", {}) != wanted["margins"]:
        return "its margins are others"
    if found.get("tune") != wanted["tune"]:
        return "it is tuned otherwise"
    if found.get("circuits") != wanted["circuits"]:
        return "its circuits are others"
    for name, cell in found["cells"].items() if whole else ():
        now = wanted["cells"].get(name)
        if now is None:
            return f"its cell {name} is not of this one"
        # Equal words may mean another identity to a newer version: the folder keeps its own code.
        if now["words"] != cell["words"] and now["identity"] != cell["identity"]:
            return f"its cell {name} is trained by other words: {' '.join(cell['words'])}"
    return ""


def describe(grid: Grid, cells: Sequence[Cell]) -> dict[str, Any]:
    """What `grid.json` holds: everything the comparison needs to know of the grid."""
    return {
        "format": FORMAT,
        "name": grid.name,
        "base": grid.base,
        "axes": {axis: list(values) for axis, values in grid.axes.items()},
        "baselines": dict(grid.baselines),
        "posthoc": dict(grid.posthoc),
        "seeds": list(grid.seeds),
        "endpoints": list(grid.endpoints),
        "margins": dict(grid.margins),
        "suite": grid.suite,
        "split": grid.split,
        "tune": _plain(grid.tune),
        "circuits": grid.circuits and grid.circuits.described(),
        "cells": {cell.name: _cell(cell) for cell in cells},
        # JSON is written with its names sorted.
        "order": [cell.name for cell in cells],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    asked = cell.untuned or cell
    about = {"words": list(asked.words), "values": dict(asked.values), "seed": asked.seed}
    about["identity"] = asked.identity
    return about if asked is cell else {**about, "tuned": list(cell.words)}


def _plain(tune: Tuning | None) -> dict[str, Any] | None:
    """A search as JSON gives it back."""
    return None if tune is None else json.loads(json.dumps(asdict(tune)))
