"""Small grids, what they found, and the processes that run them."""

import json
import subprocess
import sys
from pathlib import Path

from support.training import SMALL, digest

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
    """The processes that a process has started."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    )
    return [int(word) for word in listed.stdout.split()]
