"""Do an arm's seeds find the same units? Taken once all its cells are scored, as a round of its own.

A cell's other scores need that cell alone, and are taken as soon as it is trained. This one reads
the arm's other seeds as well. The engine that trained the cells takes it: by the grid's copy of the
code, by as many workers, one process to a cell, and a call's end or a kill loses no more than that.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pellucid.errors import RunError, UserError

if TYPE_CHECKING:
    from pellucid.eval import Score
    from pellucid.run import Run
    from pellucid.sweep.folder import GridFolder
    from pellucid.sweep.grid import Cell, Grid

METRIC = "seed_consistency"
FIELD = "compared"
"""Field of a run's manifest: how long it took."""
WITH_SEEDS = "+seeds"
"""Behind the name of a suite: its scores, and this metric beside them."""


def asked(grid: "Grid") -> "Grid":
    """The grid whose cells are done once they have this metric, too."""
    return replace(grid, suite=grid.suite + WITH_SEEDS)


def plain(suite: str) -> str:
    """The name of a suite alone."""
    return suite.removesuffix(WITH_SEEDS)


def has(scores: Mapping[str, Any]) -> bool:
    """Whether a file of scores holds this metric."""
    return any(score["metric"] == METRIC for score in scores["scores"])


def waiting(grid: "Grid", cells: "Sequence[Cell]", folder: "GridFolder") -> "list[Cell]":
    """The arms in which a cell has no such score yet, each cell told the others of its arm.

    An arm needs two seeds that have not failed.
    """
    return list(_waiting(grid, cells, folder)) if grid.consistency else []


def _waiting(grid: "Grid", cells: "Sequence[Cell]", folder: "GridFolder") -> "Iterator[Cell]":
    suite = asked(grid).suite
    for arm in _arms(cells):
        states = {cell.name: folder.state(cell.name, suite) for cell in arm}
        able = [cell for cell in arm if states[cell.name] != "failed"]
        if len(able) < 2 or all(states[cell.name] == "done" for cell in able):
            continue
        for cell in able:
            others = tuple(other.name for other in able if other is not cell)
            yield replace(cell, against=others, circuits=None)


def _arms(cells: "Sequence[Cell]") -> "list[list[Cell]]":
    """Cells that differ in their seed alone."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.arm, []).append(cell)
    return list(found.values())


def add(run: "Run", seeds: "Sequence[Run]", *, suite: str, split: str) -> None:
    """Put the metric beside a scored run's other scores, and renew its page.

    Raises RunError where it has no scores.
    """
    from pellucid import report

    if (scores := run.folder.read_scores()) is None:
        raise RunError(f"{run.folder.scores_file} is gone: what is added to it has no place")
    if not has(scores):
        begun = time.monotonic()
        found = consistency(run, seeds, suite=suite, split=split)
        more = [score.to_json() for score in found]
        run.folder.write_scores(scores | {"scores": [*scores["scores"], *more]})
        run.folder.update_manifest(**{FIELD: {"seconds": round(time.monotonic() - begun, 3)}})
    report.write_report(run.folder)


def consistency(run: "Run", seeds: "Sequence[Run]", *, suite: str, split: str) -> "list[Score]":
    """The metric of a run against runs of other seeds, with its controls; nothing is written."""
    from pellucid.eval.evaluate import workbench
    from pellucid.eval.score import NO_VALUE, Score
    from pellucid.eval.suite import METRICS
    from pellucid.eval.taking import permitted, taken

    chosen = permitted(run, {METRIC: METRICS[METRIC]}, split=split, by_name=False)
    try:
        bench = workbench(run, suite=suite, split=split, seeds=seeds)
    except UserError as reason:  # such as an arm whose cells were matched each for itself
        why = (NO_VALUE + str(reason),)
        nothing = {"split": split, "value": None, "n": 0, "seconds": 0.0, "tokens": 0}
        return [Score(metric=METRIC, **nothing, controls={"random_twin": str(reason)}, flags=why)]
    return taken(bench, METRIC, chosen[METRIC])
