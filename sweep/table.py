"""A grid in a terminal: its plan, its cells while they run, and what became of them."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pellucid.models import account
from pellucid.settings.summary import FORWARDS_PER_STEP, device_of, measured_rate, spelled
from pellucid.sweep.board import Board
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import Cell, Grid

TRAINED = ("done", "trained")
ROWS = 12
"""Cells of each kind that are listed by name."""


def plan(
    grid: Grid,
    cells: Sequence[Cell],
    states: Sequence[str],
    workers: int,
    scoring: Callable[[Cell], float] | None = None,
) -> list[str]:
    """What `--dry-run` prints: cells, cost and the time to expect.

    `scoring` gives the seconds that scoring a cell, its circuits included, is expected to take;
    None where the cells are not scored.
    """
    left = [cell for cell, state in zip(cells, states, strict=True) if state != "done"]
    untrained = [c for c, state in zip(cells, states, strict=True) if state not in TRAINED]
    work, tokens = sum(map(flops, untrained)), sum(cell.tokens for cell in untrained)
    rate = measured_rate(cells[0].config, device_of(cells[0].config))
    scored = _to_score(left, workers, scoring)
    counted = Counter(states)
    said = ", ".join(f"{counted[state]} {state}" for state in counted)
    axes = {axis: ", ".join(v or "as it is" for v in values) for axis, values in grid.axes.items()}
    declared = ", ".join(grid.endpoints) or "none declared"
    return [
        f"{grid.name}: {len(cells)} cells ({said})",
        *(f"  axis {axis}: {values}" for axis, values in axes.items()),
        *(f"  baseline {name}: {value}" for name, value in grid.baselines.items()),
        *(f"  post-hoc {name}: {value}" for name, value in grid.posthoc.items()),
        f"  seeds {', '.join(map(str, grid.seeds))}; endpoints: {declared}",
        f"  {tokens:,} tokens and {work:.2e} FLOPs of training are left,",
        f"  about {spelled(work / rate / workers)} with {workers} workers{scored}",
        *([grid.circuits.cost] if grid.circuits else ()),
    ]


def _to_score(left: Sequence[Cell], workers: int, scoring: Callable[[Cell], float] | None) -> str:
    """What a plan says of the time that scoring takes."""
    if scoring is None:
        return ""
    seconds = sum(map(scoring, left)) / workers
    return f", and {spelled(seconds)} to score {len(left)} (suite and circuits)"


_known: dict[tuple, float] = {}


def flops(cell: Cell) -> float:
    """Operations of a cell's training; models of equal form are counted once."""
    key = (repr(cell.config.model), cell.config.data.vocab_size)
    if key not in _known:
        size = account(cell.config.model, vocab_size=cell.config.data.vocab_size)
        _known[key] = FORWARDS_PER_STEP * size.flops_executed
    return cell.tokens * _known[key]


class LiveTable:
    """What a terminal shows while a grid runs."""

    def __init__(self, grid: Grid, folder: GridFolder, cells: Sequence[Cell]):
        self.grid, self.folder = grid, folder
        self.names = [cell.name for cell in cells]
        self.begun = time.monotonic()
        self.states = {name: folder.state(name, grid.suite) for name in self.names}

    def __call__(self, board: Board) -> Group:
        for name in [n for n, state in self.states.items() if state not in ("done", "failed")]:
            if name in board.ended:
                self.states[name] = "done"
            elif (
                name in board.running
                or name in board.elsewhere
                or (self.folder.failures / f"{name}.json").exists()
            ):
                self.states[name] = self.folder.state(name, self.grid.suite)
        counted = Counter(self.states.values())
        head = Text(f"{self.grid.name}: {counted['done']} of {len(self.names)} cells done")
        if counted["failed"]:
            head.append(f", {counted['failed']} failed", style="red")
        head.append(f"  {self._left(board, counted)}", style="dim")
        return Group(head, *map(Text, board.said), self._table(board))

    def _table(self, board: Board) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, since in list(board.running.items())[:ROWS]:
            share = self.folder.progress(name)
            bar = ProgressBar(total=1.0, completed=share, width=20)
            table.add_row(name, bar, f"{share:4.0%}", spelled(time.monotonic() - since))
        for name in sorted(board.elsewhere)[:ROWS]:
            table.add_row(name, "", "", "by another runner")
        return table

    def _left(self, board: Board, counted: Counter) -> str:
        if not board.ended:
            return ""
        taken = time.monotonic() - self.begun
        left = len(self.names) - counted["done"] - counted["failed"]
        return f"about {spelled(left * taken / len(board.ended))} left"


def report(console: Console, grid: Grid, folder: GridFolder, cells: Sequence[Cell]) -> None:
    """What became of the cells, each failure with its reason."""
    states = {cell.name: folder.state(cell.name, grid.suite) for cell in cells}
    done = sum(state == "done" for state in states.values())
    lines = [Text(f"{grid.name}: {done} of {len(cells)} cells done, in {folder.path}")]
    for name in (name for name, state in states.items() if state == "failed"):
        lines.append(Text(f"  failed  {name}: {folder.failure(name).reason}", style="red"))
    left = [name for name, state in states.items() if state not in ("done", "failed")]
    if left:
        lines.append(Text(f"  {len(left)} left, the first is {left[0]}: the same command goes on"))
    console.print(*lines, sep="\n", soft_wrap=True)
