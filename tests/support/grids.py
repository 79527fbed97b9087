"""Small grids, what they found, and the processes that run them."""

import json
import subprocess
import sys
from math import log2
from pathlib import Path

from support.training import SMALL, digest

from pellucid.errors import EXIT_NONFINITE, EXIT_RESUME
from pellucid.sweep.folder import Failure, GridFolder

BASE = " ".join(SMALL)
FILE = """\
from pellucid.sweep import Grid
grid = Grid(
    name="k",
    base={base!r},
    axes={{"k": ["mlp.k=2", "mlp.k=8"]}},
    seeds=(0, 1),
    endpoints=("bits_per_byte",),
    suite={suite!r},
)
"""


def write(folder: Path, base: str = BASE, suite: str = "smoke") -> Path:
    """A grid of four cells as a file."""
    file = folder / "k.py"
    file.write_text(FILE.format(base=base, suite=suite))
    return file


def results(out: Path, step: int = 40) -> dict[str, dict]:
    """Weights, metrics and the file of scores of every cell, without what is in seconds."""
    found = {}
    for run in sorted((out / "cells").iterdir()):
        held = json.loads((run / "scores.json").read_text())
        plain = [{k: v for k, v in score.items() if k != "seconds"} for score in held["scores"]]
        found[run.name] = {"run": digest(run, step), "scores": held | {"scores": plain}}
    return found


def start(file: Path, out: Path, *words: str) -> subprocess.Popen:
    """`pellucid sweep` in a process of its own."""
    command = [sys.executable, "-m", "pellucid.cli", "sweep", str(file), "--out", str(out), *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=out.parent
    )


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that have not ended."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,stat=", "--ppid", str(pid)], capture_output=True, text=True
    )
    parts = map(str.split, listed.stdout.splitlines())
    return [int(number) for number, state in parts if not state.startswith("Z")]


class Pretended:
    """Stands for training: writes what a trial of a planted curve would leave."""

    def __init__(self, folder: GridFolder, best: dict[str, float], stops: int = 0):
        self.folder, self.best, self.cells, self.stops = folder, best, [], stops
        self.calls: list[tuple[list[str], set[str]]] = []
        """names of the cells that were asked for, and of those whose weights are still needed"""

    def __call__(self, grid, cells, kept):
        assert grid.suite == ""
        if self.stops:
            self.stops -= 1
            return EXIT_RESUME
        self.calls.append(([cell.name for cell in cells], set(kept)))
        for cell in cells:
            if self.folder.state(cell.name, "") in ("done", "failed"):
                continue
            best = next(rate for part, rate in self.best.items() if part in cell.arm)
            self.cells.append(cell)
            if cell.config.train.lr > 4 * best:
                reason = Failure("its loss was not finite", EXIT_NONFINITE, 1)
                self.folder.fail(cell.name, reason)
                continue
            self._write(cell, best)
        return 0

    def _write(self, cell, best):
        run = self.folder.run(cell.name)
        run.path.mkdir(parents=True)
        manifest = {"data_fingerprint": "x", "tokenizer_sha256": "y", "finished": {}}
        run.manifest_file.write_text(json.dumps(manifest))
        config = {"format": 1, "data": {}, "model": {}, "train": {}}
        run.config_file.write_text(json.dumps(config))
        bits = 2 + abs(log2(cell.config.train.lr / best)) + 0.001 * cell.seed
        rows = [{"kind": "val", "step": step, "bits_per_byte": bits + 5 - step} for step in (1, 5)]
        run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
