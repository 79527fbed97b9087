"""The dense rungs of a finished grid that an arm's run stands beside, seed by seed."""

from collections.abc import Sequence

from pellucid.experiments.ladder import LadderError
from pellucid.report.grid.reading import CellFiles


def usable(
    cell: CellFiles, rungs: Sequence[CellFiles], *metrics: str
) -> list[tuple[float, CellFiles]]:
    """Rungs by their active parameters, smallest first.

    LadderError where a rung or the cell is not done, has no value of a metric, or was trained on
    other data or from other weights: nothing is set beside it then.
    """
    for each in (cell, *rungs):
        lacking = next((f"it has no {name}" for name in metrics if name not in each.metrics), "")
        if each.state != "done" or lacking:
            raise LadderError(f"{each.name} is {each.state}: {each.reason or lacking}")
        if each.key != cell.key:
            raise LadderError(f"{each.name} was trained on other data or from other weights")
    return sorted(((rung.costs["active"], rung) for rung in rungs), key=lambda pair: pair[0])
