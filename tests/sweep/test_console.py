"""What a sweep prints where there is no terminal: whole lines, as a file or a pipe can hold them."""

import time

from pellucid.errors import EXIT_OK
from pellucid.settings.console import console_of
from pellucid.sweep import Grid
from pellucid.sweep import run as runner
from pellucid.sweep.board import Board
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.table import LiveTable

LONG = "tiny train.lr=0.0001 train.warmup=0.1 train.weight_decay=0.01 train.clip=0.5 mlp.k=8"
GRID = Grid(name="g", axes={"all": [LONG.removeprefix("tiny ")]}, seeds=(0,))


def test_the_table_of_cells_has_a_line_for_each(tmp_path, capsys):
    [cell], folder = GRID.cells(), GridFolder(tmp_path / "out")
    folder.open(GRID, [cell])
    board = Board()
    board.running[cell.name] = time.monotonic()
    console_of(runner.WIDTH).print(LiveTable(GRID, folder, [cell])(board))
    lines = capsys.readouterr().out.splitlines()
    assert len(cell.name) > 70 and len(lines) == 2
    assert cell.name in lines[1] and "0%" in lines[1] and "s" in lines[1].split("0%")[1]


def test_a_sweep_does_not_break_its_sentences(tmp_path, monkeypatch, capsys):
    said = f"cells run the code that the grid was begun with, in {'x' * 200}, not today's"
    monkeypatch.setattr(runner, "_in_turn", lambda *_: EXIT_OK)
    monkeypatch.setattr(runner.snapshot, "take", lambda _: said)
    assert runner.sweep(GRID, tmp_path / "out", workers=1) == EXIT_OK
    assert said in capsys.readouterr().out.splitlines()
