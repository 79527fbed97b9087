"""`pellucid sweep FILE`: run what is missing of a grid."""

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.live import Live

from pellucid.errors import EXIT_OK, EXIT_USER
from pellucid.report.grid.arms import INDUCTION
from pellucid.settings.console import console_of
from pellucid.sweep import by_loss, consistency, matched, scoring, snapshot, table
from pellucid.sweep import slot as slots
from pellucid.sweep.board import Board
from pellucid.sweep.engines import Engine, Place
from pellucid.sweep.fitted import give_up_orphans, needed
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import Cell, Grid
from pellucid.sweep.trials import UNSCORED, RunTrials, check_trials, first_round, tuned

STOPS = (signal.SIGTERM, signal.SIGINT)
WIDTH = 160
"""Characters of a line of the table of cells where there is no terminal."""


def sweep(
    grid: Grid,
    out: Path,
    *,
    dry_run: bool = False,
    retry: bool = False,
    slot: float | None = None,
    begun: float | None = None,
    **where: Any,
) -> int:
    """Run the missing cells of a grid in the folder `out`; the exit code.

    `where` are fields of `Place`. A `slot` ends the call before that many seconds from `begun` (on
    the monotonic clock; now), and leaves of finished cells what they found, without weights.

    0: all cells are done. 2: some failed, each with its reason, or cannot be scored in a `slot` as
    short as that. 75: stopped, the same command goes on. Raises UserError, before anything is
    started, for a grid that contradicts itself, a folder of another one, and a cluster that is not
    there.
    """
    begun = begun or time.monotonic()
    folder, console, place = GridFolder(out), console_of(WIDTH), Place(**where)
    place.check(slot)
    grid.check()
    if not dry_run:
        place.reach()
    folder.check(grid)
    with _threads(place.threads):
        found = grid.matches(matched.remembered(out, grid))
    cells = grid.cells(found)
    folder.check(grid, cells)
    check_trials(grid, cells)
    workers = place.at_once(len(cells))
    if dry_run:
        print("\n".join(_plan(grid, cells, folder, workers, slot)))
        return EXIT_OK
    cells = folder.begin(grid, found)
    _take_code(folder, console, retry)
    bounded = slot and partial(slots.Slot, slot, begun=begun)
    about = {"folder": folder, "console": console, "place": place, "workers": workers}
    compared = lambda: {cell.name for cell in consistency.waiting(grid, cells, folder)}
    sources = lambda: needed(folder, cells, grid.suite) | compared()
    run = partial(_run, bounded=bounded, sources=sources, **about)
    if grid.tune:
        code, cells = _tuned(grid, cells, folder, console, run)
        if code:
            return code
    code = _in_turn(grid, cells, folder, run) or _compared(grid, cells, folder, console, run)
    return _ended(grid, cells, folder, console, code)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """As many CPU threads as a cell has: a step that is timed takes as long as it will there."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _take_code(folder: GridFolder, console: Console, retry: bool) -> None:
    """Take the snapshot that all cells run; with `retry`, failed cells are tried again."""
    if retry:
        folder.forget_failures()
    if said := snapshot.take(folder.code):
        console.print(said, soft_wrap=True)


def _tuned(
    grid: Grid, cells: list[Cell], folder: GridFolder, console: Console, run: RunTrials
) -> tuple[int, list[Cell]]:
    """Tune the arms, and tell the cells what was chosen; 75 and none where a stop was asked for."""
    code, found = tuned(grid, cells, folder, run)
    if code:
        said = f"{grid.name}: stopped while it was tuned; the same command goes on"
        console.print(said, soft_wrap=True)
    else:
        folder.open(grid, found)
    return code, found


def _in_turn(grid: Grid, cells: list[Cell], folder: GridFolder, run: RunTrials) -> int:
    """Run what is trained, then what is fitted to it; 0, or 75 where a stop was asked for."""
    code = run(grid, [cell for cell in cells if not cell.fit], ())
    if code or not any(cell.fit for cell in cells):
        return code
    give_up_orphans(folder, cells)
    return run(grid, cells, ())


def _compared(
    grid: Grid, cells: list[Cell], folder: GridFolder, console: Console, run: RunTrials
) -> int:
    """Compare the seeds of arms, where that is asked for and not done; 0, or the code of `run`."""
    if not (left := consistency.waiting(grid, cells, folder)):
        return EXIT_OK
    console.print(f"{grid.name}: comparing the seeds of {len(left)} cells", soft_wrap=True)
    return run(consistency.asked(grid), left, ())


def _ended(grid: Grid, cells: list[Cell], folder: GridFolder, console: Console, code: int) -> int:
    """Tell what was done and what failed; the exit code of the whole."""
    table.report(console, grid, folder, cells)
    if code == EXIT_OK and by_loss.has_ladder(grid.baselines):
        _report_ladder(console, folder.path)
    failed = any(folder.state(cell.name, grid.suite) == "failed" for cell in cells)
    return code or (EXIT_USER if failed else EXIT_OK)


def _plan(
    grid: Grid, cells: Sequence[Cell], folder: GridFolder, workers: int, slot: float | None
) -> list[str]:
    """What `--dry-run` prints."""
    states = [folder.state(cell.name, grid.suite) for cell in cells]
    pace = slots.Pace(folder, cells, grid.suite)
    lines = _plan_of_tuning(grid, cells, folder, workers)
    lines += table.plan(grid, cells, states, workers, pace.scoring)
    lines += _unranked(grid)
    if slot:
        lines.append(slots.plan(slots.Slot(slot, pace), cells, workers))
    return lines


def _unranked(grid: Grid) -> list[str]:
    """Why no arm of a grid can have a rank on its page; nothing where some can."""
    from pellucid.eval.suite import METRICS

    if grid.tune is None:
        return ["  no arm will be ranked: nothing is tuned (tune=Tuning(…))"]
    if grid.suite not in METRICS[INDUCTION].suites:
        return [f"  no arm will be ranked: the suite {grid.suite} does not measure {INDUCTION}"]
    return []


def _report_ladder(console: Console, out: Path) -> None:
    lines = ["by loss, between the rungs of the ladder:"]
    lines += [equal.line for equal in by_loss.compared(out)]
    console.print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)


def _plan_of_tuning(
    grid: Grid, cells: Sequence[Cell], folder: GridFolder, workers: int
) -> list[str]:
    """What `--dry-run` prints of the trials that every search begins with."""
    if grid.tune is None:
        return []
    begun = first_round(grid, cells, folder)
    states = [folder.state(cell.name, UNSCORED) for cell in begun]
    alone = replace(grid, name=f"{grid.name}, tuning", seeds=grid.tune.seeds, endpoints=())
    alone = replace(alone, circuits=None)
    return [
        *table.plan(alone, begun, states, workers),
        "  and more where the best rate lies at an edge, or an arm has a dial",
    ]


def _run(
    grid: Grid,
    cells: Sequence[Cell],
    kept: Collection[str],
    *,
    folder: GridFolder,
    console: Console,
    place: Place,
    workers: int,
    bounded: Callable[[slots.Pace], slots.Slot] | None,
    sources: Callable[[], set[str]],
) -> int:
    """Run those of some cells that are not done; 0, or 75 where a stop was asked for.

    2: what is left has been trained, and no call of the slot's length can score it. A bounded call
    lets the weights of finished ones go, but for those `kept` and of `sources`.
    """
    code = _ran(grid, cells, folder, console, place, workers, bounded)
    spared = {*kept, *sources()} if bounded else set()
    for cell in cells if bounded else ():
        if folder.state(cell.name, grid.suite) == "done" and cell.name not in spared:
            folder.lighten(cell.name)
    return code


def _ran(
    grid: Grid,
    cells: Sequence[Cell],
    folder: GridFolder,
    console: Console,
    place: Place,
    workers: int,
    bounded: Callable[[slots.Pace], slots.Slot] | None,
) -> int:
    left = [c for c in cells if folder.state(c.name, grid.suite) not in ("done", "failed")]
    if not left:
        return EXIT_OK
    slot = bounded(slots.Pace(folder, cells, grid.suite)) if bounded else None
    hopeless = slots.unscorable(slot, left) if slot else []
    if hopeless:
        console.print(slots.too_short(slot, hopeless), soft_wrap=True, markup=False)
        left = [cell for cell in left if cell not in hopeless]
    if not left:
        return EXIT_USER
    left = slots.by_need(left, folder, grid.suite) if slot else left
    first = [c for c in left[:workers] if folder.state(c.name, grid.suite) == "trained"]
    engine = place.build(folder, grid, left, min(workers, len(left)), slot)
    code = _watched(engine, table.LiveTable(grid, folder, cells), console, slot)
    if slot:
        scoring.note_cut_off(slot, left, first)
    return code or (EXIT_USER if hopeless else EXIT_OK)


def _watched(
    engine: Engine, shown: table.LiveTable, console: Console, slot: slots.Slot | None
) -> int:
    with _stopped_by_signals(engine), Live(console=console, refresh_per_second=2) as live:

        def watch(board: Board) -> None:
            live.update(shown(board))
            # Once: a worker that is told a second time ends without saving.
            if slot and slot.over and not engine.stopping:
                engine.stop()

        return engine.run(watch)


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
