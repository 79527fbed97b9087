"""A grid's folder: which grid it is of, its cells' runs, what failed and why."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pellucid import checkpoint
from pellucid.errors import RunError
from pellucid.run import RunFolder
from pellucid.storage import files, locking
from pellucid.sweep.grid import Cell, Grid, GridError
from pellucid.sweep.tuning import Tuning

FORMAT = 1
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

    def open(self, grid: Grid, cells: Sequence[Cell]) -> None:
        """Create the folder, or go on with it; raises GridError where it is another grid's."""
        wanted = describe(grid, cells)
        with files.explained(RunError, f"create the folder {self.path}"):
            if not self.grid_file.exists() and self.path.exists() and any(self.path.iterdir()):
                raise GridError(f"{self.path} is not a grid and not empty: give another folder")
            for folder in (self.cells, self.failures, self.logs, self.claims):
                folder.mkdir(parents=True, exist_ok=True)
        if not self.grid_file.exists():
            files.write_json(self.grid_file, wanted, RunError)
            return
        if what := _other(self.read(), wanted):
            raise GridError(
                f"{self.path} holds another grid ({what}): give another folder; cells may be added "
                f"to a grid, but what is there keeps its words, its endpoints and its tuning"
            )
        files.write_json(self.grid_file, wanted, RunError)

    def matched(self, grid: Grid) -> dict[str, list[str]]:
        """The words of the grid's matched baselines: as they were found before, or now."""
        file = self.path / "matched.json"
        known = files.read_object(file, (), RunError) if file.exists() else {}
        found = {}
        for name, value in grid.baselines.items():
            if "match=" in value:
                old = known.get(name, {})
                same = old.get("asked") == [grid.base, value]
                found[name] = old["words"] if same else grid.resolved(name, value)
        return found

    def keep_matched(self, grid: Grid, words: Mapping[str, Sequence[str]]) -> None:
        """Remember what was matched: a time measured again would match another width."""
        if words:
            asked = {name: [grid.base, grid.baselines[name]] for name in words}
            kept = {n: {"asked": asked[n], "words": list(found)} for n, found in words.items()}
            files.write_json(self.path / "matched.json", kept, RunError)

    def read(self) -> dict[str, Any]:
        """What `grid.json` holds."""
        keys = ("format", "name", "cells", "endpoints", "seeds")
        return files.read_object(self.grid_file, keys, RunError)

    def run(self, name: str) -> RunFolder:
        """The folder of a cell's run."""
        return RunFolder(self.cells / name)

    def state(self, name: str, suite: str) -> State:
        """What is left to do for a cell; with no suite it need not be scored."""
        run = self.run(name)
        if (self.failures / f"{name}.json").exists():
            return "failed"
        if not run.exists():
            return "missing"
        if not run.is_finished:
            return "begun"
        if not suite:
            return "done"
        scores = run.read_scores()
        return "done" if scores and scores.get("suite") == suite else "trained"

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
        """Whether this process may run the cell: no other process does while this lasts."""
        try:
            held = locking.exclusive(self.claims / f"{name}.lock")
            held.__enter__()
        except RunError:
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


def _other(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What makes a folder's grid another one than what is wanted; nothing where it is the same."""
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
    for name, cell in found["cells"].items():
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
