"""`pellucid sweep`: run the missing cells of an ablation grid."""

from pathlib import Path

from pellucid.commands.options import at_least_one, parsed


def run_grid(argv: list[str]) -> int:
    """Run a grid, or show its plan."""
    count = {"type": at_least_one, "metavar": "N"}
    args = parsed(
        "sweep",
        argv,
        ("file", {"metavar": "FILE", "help": "a Python file that holds `grid = Grid(…)`"}),
        ("--out", {"help": "the grid's folder (default: grids/ and its name)"}),
        ("--workers", {**count, "help": "cells run at once (default: one to a GPU or core)"}),
        ("--threads", {**count, "default": 1, "help": "CPU threads of a cell (default: 1)"}),
        ("--per-gpu", {**count, "default": 1, "help": "cells on one GPU at once (default: 1)"}),
        ("--dry-run", {"action": "store_true", "help": "show cells, cost and expected time"}),
        ("--retry", {"action": "store_true", "help": "run again what has failed"}),
    )
    from pellucid.sweep import load_grid
    from pellucid.sweep.run import sweep

    grid = load_grid(args.file)
    return sweep(
        grid,
        Path(args.out or f"grids/{grid.name}"),
        workers=args.workers,
        threads=args.threads,
        per_gpu=args.per_gpu,
        dry_run=args.dry_run,
        retry=args.retry,
    )
