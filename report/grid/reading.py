"""What the page of a grid reads: `grid.json`, `tuning.json`, and each cell's run or failure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pellucid.errors import RunError
from pellucid.report import origin
from pellucid.report.reading import RunFiles, read_json, read_run
from pellucid.report.scores import better, is_number
from pellucid.report.summary import parameters
from pellucid.report.wording import number, reason

COSTS = {
    "active": "Active parameters",
    "flops_executed": "FLOPs per token",
    "seconds": "Seconds of training",
}
MARKED = {"revive": "{n} units revived", "skip": "{n} steps skipped", "overflow": "{n} overflows"}
"""Events of training that a reader must know of, as its metrics name them."""
BASELINE = "baseline"


@dataclass(kw_only=True)
class CellFiles:
    """One cell as its folder tells it; numbers of several sites are their mean."""

    name: str
    values: Mapping[str, str]
    seed: int
    state: str
    reason: str = ""
    key: tuple[Any, ...] = ()
    """fingerprint and origin: cells of one key may be ranked with each other"""
    metrics: dict[str, float] = field(default_factory=dict)
    twins: dict[str, float] = field(default_factory=dict)
    """the same metrics of its random twin"""
    better: dict[str, str] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    parts: tuple[float, float] | None = None
    """of a post-hoc cell: seconds of the fit, and of the dense run, which its cost adds up"""
    fitted_to: str = ""
    """of a post-hoc cell: the dense run's folder"""
    others: int = 0
    """cells that it was trained with as one model: its seconds are those of their common steps"""
    marks: list[str] = field(default_factory=list)
    rate: float | None = None
    """its learning rate"""
    matched: str | None = None
    """of a matched baseline: with what, and how closely"""
    refused: dict[str, str] = field(default_factory=dict)
    """metrics that may not evaluate it, and why"""

    @property
    def label(self) -> str:
        """What the cell has in common with those of other seeds, as a reader wants it."""
        return label_of(self.values)


def label_of(values: Mapping[str, str]) -> str:
    """An arm's name: its words, or its baseline's name."""
    if BASELINE in values:
        return values[BASELINE]
    return " · ".join(value or f"{axis}: as it is" for axis, value in values.items()) or "base"


@dataclass(frozen=True)
class GridFiles:
    """A grid's folder."""

    path: Path
    grid: dict[str, Any]
    tuning: dict[str, Any] | None
    cells: list[CellFiles]


def is_grid(path: Path | str) -> bool:
    """Whether a folder is a grid's."""
    return (Path(path) / "grid.json").is_file()


def read_grid(path: Path | str) -> GridFiles:
    """Read a grid's folder, cells in its own order. RunError: it is none, or a file is damaged."""
    path = Path(path).resolve()
    grid = read_json(path / "grid.json")
    if grid is None:
        raise RunError(f"{path} is not a grid: it has no grid.json")
    cells = grid.get("cells")
    if not isinstance(cells, dict) or not isinstance(grid.get("name"), str):
        raise RunError(f"{path / 'grid.json'} is not a grid's: it names no cells")
    for key in ("axes", "baselines", "margins", "posthoc"):
        grid.setdefault(key, {})
    for key in ("endpoints", "seeds"):
        grid.setdefault(key, [])
    names = [name for name in grid.get("order", cells) if name in cells]
    read = [_cell(path, name, cells[name], grid.get("split", "val")) for name in names]
    _untimed(read)
    return GridFiles(path, grid, read_json(path / "tuning.json"), read)


def _cell(path: Path, name: str, facts: Mapping[str, Any], split: str) -> CellFiles:
    cell = CellFiles(
        name=name,
        values={str(k): str(v) for k, v in facts.get("values", {}).items()},
        seed=facts.get("seed", 0),
        state="missing",
        reason="not begun",
    )
    if failure := read_json(path / "failures" / f"{name}.json"):
        cell.state, cell.reason = "failed", str(failure.get("reason", "no reason was recorded"))
    if not (path / "cells" / name / "config.json").exists():
        return cell
    try:
        run = read_run(SimpleNamespace(path=path / "cells" / name))
    except RunError as error:
        cell.state, cell.reason = "failed", str(error)
        return cell
    _fill(cell, run, split)
    return cell


def _untimed(cells: Sequence[CellFiles]) -> None:
    """Take the seconds from cells of which a part is no cost of theirs, and mark them."""
    others = {cell.name: cell.others for cell in cells if cell.others}
    for cell in cells:
        shared = cell.others or others.get(cell.fitted_to, 0)
        if shared:
            whose = "" if cell.others else "fitted to a run "
            mates = "1 other" if shared == 1 else f"{shared} others"
            cell.marks.append(f"{whose}trained with {mates} as one model: no seconds of its own")
            cell.costs.pop("seconds", None)
            cell.parts = None


def _fill(cell: CellFiles, run: RunFiles, split: str) -> None:
    cell.key = (_data(run) or f"unknown {cell.name}", *origin.kin(run))
    cell.marks = _marks(run)
    cell.matched = origin.matched(run)
    train = run.config.get("train")
    cell.rate = train.get("lr") if isinstance(train, dict) else None
    finished = run.manifest.get("finished")
    seconds = finished.get("seconds") if isinstance(finished, dict) else None
    cell.others = _others(run)
    if fitted := run.manifest.get("posthoc"):
        cell.parts = _parts(seconds, fitted)
        cell.fitted_to = str(origin.sources(run).get("posthoc", {}).get("run"))
        seconds = sum(cell.parts) if cell.parts else None
    found = {**parameters(run), "seconds": seconds}
    cell.costs = {key: float(found[key]) for key in COSTS if is_number(found.get(key))}
    if cell.state == "failed":
        return
    scores = (run.scores or {}).get("scores", [])
    ends = (run.scores or {}).get("checkpoint"), (finished or {}).get("step")
    if all(map(is_number, ends)) and ends[0] != ends[1]:
        cell.state, cell.reason = "trained", f"scored at step {ends[0]}, not at its end"
        return
    cell.state = "done" if scores else "trained" if finished else "begun"
    cell.reason = {"done": "", "trained": "not scored", "begun": "not trained to its end"}[
        cell.state
    ]
    _score(cell, [score for score in scores if score.get("split", "val") == split])


def _others(run: RunFiles) -> int:
    """How many other runs shared its steps, as one model (`--stack`)."""
    found = run.manifest.get("stacked")
    runs = found.get("runs") if isinstance(found, dict) else None
    return int(runs) - 1 if is_number(runs) and runs > 1 else 0


def _parts(seconds: Any, fitted: Any) -> tuple[float, float] | None:
    """Seconds of a fit and of the dense run it needs; None where one of them is not known."""
    dense = fitted.get("seconds_of_the_run") if isinstance(fitted, dict) else None
    return (seconds, dense) if is_number(seconds) and is_number(dense) else None


def _data(run: RunFiles) -> str:
    """Fingerprint of a run's data; where it was scored on others, both."""
    scored = (run.scores or {}).get("data_fingerprint", run.fingerprint)
    return " ".join(dict.fromkeys(str(one) for one in (run.fingerprint, scored) if one))


def _score(cell: CellFiles, scores: list[dict[str, Any]]) -> None:
    """Keep the mean over sites of each metric, and what was refused."""
    found: dict[str, list[float]] = {}
    twins: dict[str, list[float]] = {}
    for score in scores:
        metric = str(score.get("metric"))
        if is_number(score.get("value")):
            found.setdefault(metric, []).append(score["value"])
        elif reason(score).startswith("refused"):
            cell.refused[metric] = reason(score)
        twin = (score.get("controls") or {}).get("random_twin")
        if is_number(twin):
            twins.setdefault(metric, []).append(twin)
        if direction := better(score):
            cell.better[metric] = direction
    cell.metrics = {metric: float(np.mean(values)) for metric, values in found.items()}
    cell.twins = {metric: float(np.mean(values)) for metric, values in twins.items()}


def _marks(run: RunFiles) -> list[str]:
    """Skipped steps, revived units and overflow, counted over the run."""
    counted: Counter[str] = Counter()
    for row in run.metrics:
        event = row.get("event")
        if event in MARKED:
            counted[event] += row.get("units", 1) if is_number(row.get("units", 1)) else 1
        for field_, kind in (("skipped", "skip"), ("overflow", "overflow")):
            if is_number(row.get(field_)) and row[field_] > 0:
                counted[kind] += row[field_]
    return [MARKED[kind].format(n=number(n)) for kind, n in counted.items()]
