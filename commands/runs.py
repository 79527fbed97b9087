"""`pellucid eval | compare | view | replay`: what is done with runs that exist.

What needs torch is imported by the command that needs it, so that a mistake is told at once.
"""

from pathlib import Path
from typing import Any

from pellucid.commands.options import parsed, run_folder
from pellucid.errors import EXIT_OK, RunError, UserError


def evaluate(argv: list[str]) -> int:
    """Score a run, and write its report."""
    args = parsed(
        "eval",
        argv,
        ("run", {"metavar": "RUN", "help": "the folder of a run"}),
        ("--step", {"type": int, "help": "the checkpoint's step (default: the newest)"}),
        (
            "--suite",
            {"default": "quick", "help": "smoke, quick, standard or full (default: quick)"},
        ),
        ("--dense", {"metavar": "RUN", "help": "a matched dense run, to stand beside this one"}),
        (
            "--seeds",
            {"metavar": "RUN", "nargs": "+", "default": [], "help": "runs of other seeds alone"},
        ),
        ("--split", {"default": "val", "help": "the held-out split, val or test (default: val)"}),
        (
            "--labels",
            {"help": "python, english, module:function, or a .jsonl or .parquet of spans"},
        ),
    )
    run_folder(args.run)
    from pellucid import eval as scorecard
    from pellucid import report, run

    loaded = run.load(Path(args.run), step=args.step)
    dense = run.load(Path(args.dense)) if args.dense else None
    seeds = [run.load(run_folder(path).path) for path in args.seeds]
    beside = {"dense": dense, "seeds": seeds, "labels": args.labels}
    scorecard.evaluate(loaded, suite=args.suite, split=args.split, **beside)
    print(f"report: {report.write_report(loaded.folder)}")
    return EXIT_OK


def compare(argv: list[str]) -> int:
    """Set runs side by side in one page, or the arms of a grid."""
    args = parsed(
        "compare",
        argv,
        ("runs", {"metavar": "RUN", "nargs": "+", "help": "runs, two or more, or one grid"}),
        ("--out", {"help": "the page (default: compare.html; of a grid, in its folder)"}),
        ("--markdown", {"metavar": "FILE", "help": "of a grid: its tables in Markdown"}),
        ("--csv", {"metavar": "FILE", "help": "of a grid: every number as CSV"}),
        ("--figures", {"metavar": "FOLDER", "help": "of a grid: its figures as SVG and PNG"}),
    )
    if (Path(args.runs[0]) / "grid.json").is_file():
        return _compare_grid(args)
    for name in ("markdown", "csv", "figures"):
        if getattr(args, name):
            raise UserError(f"compare: --{name} is of a grid; {args.runs[0]} is none")
    if len(args.runs) < 2:
        raise UserError(f"compare needs two runs or more; only {args.runs[0]} was given")
    folders = [run_folder(path) for path in args.runs]
    from pellucid import report

    print(f"comparison: {report.write_comparison(folders, Path(args.out or 'compare.html'))}")
    return EXIT_OK


def _compare_grid(args: Any) -> int:
    if len(args.runs) > 1:
        raise UserError(f"compare takes one grid; {len(args.runs)} folders were given")
    from pellucid.report.grid import write_grid
    from pellucid.report.grid.pictures import draw_pngs

    grid = Path(args.runs[0])
    others = {
        name: Path(path) for name in ("markdown", "csv", "figures") if (path := getattr(args, name))
    }
    page = write_grid(grid, Path(args.out) if args.out else grid / "compare.html", **others)
    print(f"comparison: {page}")
    for name, path in others.items():
        print(f"{name}: {path}")
    if args.figures and (reason := draw_pngs(others["figures"])):
        print(f"  as SVG alone: {reason}")
    return EXIT_OK


def view(argv: list[str]) -> int:
    """Open the report of a run in a browser, written anew where it is older than the run."""
    args = parsed("view", argv, ("run", {"metavar": "RUN", "help": "the folder of a run"}))
    folder = run_folder(args.run)
    page = folder.report_file if _is_fresh(folder) else _report(folder)
    print(f"report: {page}")
    import webbrowser

    webbrowser.open(page.resolve().as_uri())
    return EXIT_OK


def _report(folder: Any) -> Path:
    from pellucid import report

    return report.write_report(folder)


def _is_fresh(folder: Any) -> bool:
    """Whether the page is newer than all it is made of (it need not be writable to be viewed)."""
    page = folder.report_file
    sources = (folder.metrics_file, folder.scores_file, folder.units_file, folder.manifest_file)
    sources += (folder.circuits, *folder.circuits.glob("*.json"))
    newest = max((s.stat().st_mtime_ns for s in sources if s.exists()), default=0)
    return page.exists() and page.stat().st_mtime_ns >= newest


def replay(argv: list[str]) -> int:
    """Run one step again."""
    args = parsed(
        "replay",
        argv,
        ("run", {"metavar": "RUN", "help": "the folder of a run"}),
        ("step", {"metavar": "STEP", "type": int, "help": "the step to run again"}),
    )
    if args.step < 0:
        raise RunError(f"step {args.step} is not accepted; expected 0 or more")
    run_folder(args.run)
    from pellucid import train

    return train.replay(Path(args.run), args.step)
