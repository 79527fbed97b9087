"""Do an arm's seeds find the same units? Taken once all its cells are scored, of each cell in turn.

A cell's other scores need that cell alone, and are taken as soon as it is trained. This one reads
the arm's other seeds as well, so that it comes last; a cell that has it is not asked again.
"""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pellucid.errors import EXIT_OK, EXIT_RESUME, RunError, UserError
from pellucid.sweep.folder import GridFolder

if TYPE_CHECKING:
    from pellucid.eval import Score
    from pellucid.run import Run
    from pellucid.sweep.grid import Cell, Grid

METRIC = "seed_consistency"


def awaited(grid: "Grid", cells: "Sequence[Cell]", folder: GridFolder) -> set[str]:
    """Cells whose weights this metric still needs: of arms in which a cell has no such score yet."""
    if not grid.consistency:
        return set()
    return {
        cell.name for arm in _arms(cells) if any(not _has(folder, c) for c in arm) for cell in arm
    }


def score_arms(
    grid: "Grid", cells: "Sequence[Cell]", folder: GridFolder, until: float | None = None
) -> int:
    """Score every arm of two or more seeds that are done; 0, or 75 where a call's end came first.

    `until`, on the monotonic clock: no cell is begun that takes as long as those before and would
    end later. Each cell's scores are replaced whole, so that a kill loses no more than one.
    """
    longest = 0.0
    for arm in _arms(cells) if grid.consistency else ():
        done = [cell for cell in arm if folder.state(cell.name, grid.suite) == "done"]
        for cell in [c for c in done if not _has(folder, c)] if len(done) > 1 else ():
            begun = time.monotonic()
            if until is not None and begun + longest >= until:
                return EXIT_RESUME
            _score(grid, cell, [other for other in done if other is not cell], folder)
            longest = max(longest, time.monotonic() - begun)
    return EXIT_OK


def _arms(cells: "Sequence[Cell]") -> "Iterator[list[Cell]]":
    """Cells that differ in their seed alone, where there are several."""
    found: dict[tuple, list[Cell]] = {}
    for cell in cells:
        found.setdefault(tuple(sorted(cell.values.items())), []).append(cell)
    return (arm for arm in found.values() if len(arm) > 1)


def _has(folder: GridFolder, cell: "Cell") -> bool:
    scores = folder.run(cell.name).read_scores() or {"scores": []}
    return any(score["metric"] == METRIC for score in scores["scores"])


def _score(grid: "Grid", cell: "Cell", others: "Sequence[Cell]", folder: GridFolder) -> None:
    """Add the scores to a cell's file, and renew its page."""
    from pellucid import report
    from pellucid.run import load

    run = load(folder.run(cell.name).path)
    seeds = [load(folder.run(other.name).path) for other in others]
    found = consistency(run, seeds, suite=grid.suite, split=grid.split)
    scores = run.folder.read_scores()
    if scores is None:
        raise RunError(f"{run.folder.scores_file} is gone: it was there when this call began")
    more = [score.to_json() for score in found]
    run.folder.write_scores(scores | {"scores": [*scores["scores"], *more]})
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
