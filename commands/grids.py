"""`pellucid sweep`: run the missing cells of an ablation grid."""

import time
from pathlib import Path

from pellucid.commands.options import at_least_one, duration, parsed


def run_grid(argv: list[str]) -> int:
    """Run a grid, or show its plan."""
    begun = time.monotonic()
    count = {"type": at_least_one, "metavar": "N"}
    args = parsed(
        "sweep",
        argv,
        ("file", {"metavar": "FILE", "help": "a Python file that holds `grid = Grid(…)`"}),
        ("--out", {"help": "the grid's folder (default: grids/ and its name)"}),
        ("--workers", {**count, "help": "cells run at once (default: one to a GPU or core)"}),
        ("--threads", {**count, "default": 1, "help": "CPU threads of a cell (default: 1)"}),
        ("--per-gpu", {**count, "default": 1, "help": "cells on one GPU at once (default: 1)"}),
        (
            "--stack",
            {**count, "default": 1, "help": "cells of a worker that are one batched model"},
        ),
        ("--engine", {"default": "local", "help": "local, slurm or ray (default: local)"}),
        ("--partition", {"help": "of Slurm: where jobs run"}),
        (
            "--sbatch",
            {"action": "append", "default": [], "metavar": "NAME=VALUE", "help": "of Slurm: more"},
        ),
        ("--minutes", {**count, "help": "of Slurm: a job's time (default: 240); it goes on after"}),
        ("--gpus", {**count, "help": "GPUs of a cell, of Slurm and Ray"}),
        ("--address", {"help": "of Ray: auto or HOST:PORT (default: one on this machine alone)"}),
        (
            "--slot",
            {"type": duration, "metavar": "30m", "help": "end before this, with small files"},
        ),
        ("--dry-run", {"action": "store_true", "help": "show cells, cost and expected time"}),
        ("--retry", {"action": "store_true", "help": "run again what has failed"}),
    )
    from pellucid.sweep import load_grid
    from pellucid.sweep.run import sweep

    grid = load_grid(args.file)
    words = {name: value for name, value in vars(args).items() if name not in ("file", "out")}
    return sweep(grid, Path(args.out or f"grids/{grid.name}"), begun=begun, **words)
