"""`pellucid sweep FILE`: run what is missing of a grid."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from pellucid.errors import EXIT_OK, EXIT_USER
from pellucid.sweep import by_loss, snapshot, table
from pellucid.sweep.engines import Engine, Place
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import Cell, Grid
from pellucid.sweep.trials import UNSCORED, first_round, tuned

STOPS = (signal.SIGTERM, signal.SIGINT)


def sweep(
    grid: Grid,
    out: Path,
    *,
    dry_run: bool = False,
    retry: bool = False,
    **where: Any,
) -> int:
    """Run the missing cells of a grid in the folder `out`; the exit code.

    `where` are fields of `Place`. 0: all cells are done. 2: some failed, each with its reason.
    75: stopped, the same command goes on. Raises UserError, before anything is started, for a grid
    that contradicts itself, a folder of another one, and a cluster that is not there.
    """
    folder, console, place = GridFolder(out), Console(), Place(**where)
    matched = folder.matched(grid)
    cells = grid.cells(matched)
    workers = place.at_once(len(cells))
    states = [folder.state(cell.name, grid.suite) for cell in cells]
    if dry_run:
        lines = _plan_of_tuning(grid, cells, folder, workers)
        print("\n".join([*lines, *table.plan(grid, cells, states, workers)]))
        return EXIT_OK
    place.check()
    folder.open(grid, cells)
    folder.keep_matched(grid, matched)
    if retry:
        folder.forget_failures()
    if said := snapshot.take(folder.code):
        console.print(said)
    run = partial(_run, folder=folder, console=console, place=place, workers=workers)
    if grid.tune:
        code, cells = tuned(grid, cells, folder, run)
        if code:
            console.print(f"{grid.name}: stopped while it was tuned; the same command goes on")
            return code
        folder.open(grid, cells)
    code = run(grid, cells)
    table.report(console, grid, folder, cells)
    if code == EXIT_OK and by_loss.has_ladder(grid.baselines):
        lines = ["by loss, between the rungs of the ladder:"]
        lines += [equal.line for equal in by_loss.compared(out)]
        console.print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)
    failed = any(folder.state(cell.name, grid.suite) == "failed" for cell in cells)
    return code or (EXIT_USER if failed else EXIT_OK)


def _plan_of_tuning(
    grid: Grid, cells: Sequence[Cell], folder: GridFolder, workers: int
) -> list[str]:
    """What `--dry-run` prints of the trials that every search begins with."""
    if grid.tune is None:
        return []
    begun = first_round(grid, cells)
    states = [folder.state(cell.name, UNSCORED) for cell in begun]
    alone = replace(grid, name=f"{grid.name}, tuning", seeds=grid.tune.seeds, endpoints=())
    return [
        *table.plan(alone, begun, states, workers),
        "  and more where the best rate lies at an edge, or an arm has a dial",
    ]


def _run(
    grid: Grid,
    cells: Sequence[Cell],
    *,
    folder: GridFolder,
    console: Console,
    place: Place,
    workers: int,
) -> int:
    """Run those of some cells that are not done; 0, or 75 where a stop was asked for."""
    left = [c for c in cells if folder.state(c.name, grid.suite) not in ("done", "failed")]
    if not left:
        return EXIT_OK
    engine = place.build(folder, grid, left, min(workers, len(left)))
    return _watched(engine, table.LiveTable(grid, folder, cells), console)


def _watched(engine: Engine, shown: table.LiveTable, console: Console) -> int:
    with _stopped_by_signals(engine), Live(console=console, refresh_per_second=2) as live:
        return engine.run(lambda board: live.update(shown(board)))


@contextmanager
def _stopped_by_signals(engine: Engine) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, engine.stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
