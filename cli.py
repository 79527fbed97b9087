"""The command line: `pellucid train | eval | compare | sweep | view | replay | bench`.

A mistake of the user is one line on stderr and exit code 2. What needs torch is imported by the
command that needs it, so that `--help` and `--version` answer at once.
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pellucid import __version__
from pellucid.errors import EXIT_OK, EXIT_USER, RunError, UserError
from pellucid.settings.kinds import nearest, shown

EXIT_INTERRUPTED = 130
USERS_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

USAGE = """\
Pellucid trains transformers that are interpretable by construction, and tests if they are.

  pellucid train [PRESET] [path=value ...] [run=FOLDER] [--print-config]
      Train a preset (tiny, small, base) with changes; the same command again resumes.
      pellucid train --help lists every field. match=dense by=params trains the dense baseline
      of those words instead (by: params, active, nonzero, flops, tokens, step_time).
  pellucid eval RUN [--step N] [--suite quick] [--split val] [--dense RUN]
      Score a run beside its controls, and write its report.
  pellucid view RUN
      Open the report of a run in a browser.
  pellucid compare RUN RUN ... [--out FILE]
      Set runs side by side in one page.
  pellucid sweep FILE [--out FOLDER] [--workers N] [--dry-run] [--retry]
      Run the missing cells of an ablation grid; stop and start it at will.
  pellucid replay RUN STEP
      Run one step again, to see what was not finite.
  pellucid bench train|kernels|models|fillings|widths [word ...]
      Measure the trainer or the kernels on this machine.

  pellucid --version    pellucid COMMAND --help
"""


class Parser(argparse.ArgumentParser):
    """Options of one command; a mistake is a UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return guarded(_dispatch, list(sys.argv[1:] if argv is None else argv))


def train_command(argv: Sequence[str]) -> int:
    """`pellucid train`, also for `python train.py` and `accelerate launch train.py`."""
    return guarded(_train, list(argv))


def guarded(command: Callable[[list[str]], int], argv: list[str]) -> int:
    """The exit code of a command; a user's mistake is printed, and leaves no traceback."""
    try:
        code = command(argv)
        sys.stdout.flush()  # a reader that has gone is noticed here, and not at exit
        return code
    except UserError as error:
        return _mistake(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader of our output has gone; Python must not complain at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_OK
        if error.errno not in USERS_ERRNO:
            raise
        return _mistake(error)
    except KeyboardInterrupt:
        print("pellucid: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _mistake(error: Exception) -> int:
    print("pellucid: " + " ".join(str(error).split()), file=sys.stderr)
    return EXIT_USER


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return EXIT_OK if argv else EXIT_USER
    if argv[0] in ("-V", "--version"):
        print(f"pellucid {__version__}")
        return EXIT_OK
    if argv[0] not in COMMANDS:
        raise UserError(f"{shown(argv[0])} is not a command{nearest(argv[0], COMMANDS)}")
    return COMMANDS[argv[0]](argv[1:])


def _train(argv: list[str]) -> int:
    options = [word for word in argv if word.startswith("-")]
    for option in options:
        if option not in ("-h", "--help", "--print-config"):
            raise UserError(
                f"{shown(option)} is not an option of train; expected --print-config or --help, "
                "and fields as path=value, such as train.steps=2000"
            )
    runs = [word.removeprefix("run=") for word in argv if word.startswith("run=")]
    if runs and not runs[-1]:
        raise UserError("run = '' is not accepted; expected the path of a folder")
    words = [word for word in argv if not word.startswith(("run=", "-"))]
    from pellucid import experiments
    from pellucid.config import default_run_name

    config = experiments.run_config(_matched(words))
    if {"-h", "--help"} & set(options):
        return _show("field_help", config)
    base = experiments.preset(config.preset)
    folder = Path(runs[-1]) if runs else Path("runs") / default_run_name(config, base)
    if "--print-config" in options:
        return _show("print_config", config, folder)
    from pellucid.train import train

    return train(config, folder)


def _matched(words: list[str]) -> list[str]:
    """The words of a run, or of the baseline that `match=` asks for, which is printed first."""
    asked = dict(word.split("=", 1) for word in words if word.startswith(("match=", "by=")))
    if not asked:
        return words
    if "match" not in asked:
        raise UserError("by= needs match=, as in match=dense by=params")
    from pellucid.experiments import matching

    rest = [word for word in words if not word.startswith(("match=", "by="))]
    found = matching.match(rest, asked["match"], asked.get("by", "params"))
    if os.environ.get("RANK", "0") == "0":
        print("\n".join(found.lines), flush=True)
    return list(found.words)


def _show(name: str, *args: Any) -> int:
    """Print a page about a configuration, from the first process only."""
    from pellucid.settings import pages

    if os.environ.get("RANK", "0") == "0":
        getattr(pages, name)(*args)
    return EXIT_OK


def _run_folder(path: str) -> Any:
    from pellucid.run import RunFolder

    return RunFolder.open(Path(path))


def _parsed(command: str, argv: list[str], *arguments: tuple[str, dict]) -> argparse.Namespace:
    parser = Parser(f"pellucid {command}", allow_abbrev=False)
    for name, options in arguments:
        parser.add_argument(name, **options)
    return parser.parse_args(argv)


def _eval(argv: list[str]) -> int:
    args = _parsed(
        "eval",
        argv,
        ("run", {"metavar": "RUN", "help": "the folder of a run"}),
        ("--step", {"type": int, "help": "the checkpoint's step (default: the newest)"}),
        ("--suite", {"default": "quick", "help": "quick, standard or full (default: quick)"}),
        ("--dense", {"metavar": "RUN", "help": "a matched dense run, to stand beside this one"}),
        ("--split", {"default": "val", "help": "the held-out split, val or test (default: val)"}),
        (
            "--labels",
            {"help": "python, english, module:function, or a .jsonl or .parquet of spans"},
        ),
    )
    _run_folder(args.run)
    from pellucid import report, run
    from pellucid.eval import evaluate

    loaded = run.load(Path(args.run), step=args.step)
    dense = run.load(Path(args.dense)) if args.dense else None
    evaluate(loaded, suite=args.suite, split=args.split, dense=dense, labels=args.labels)
    print(f"report: {report.write_report(loaded.folder)}")
    return EXIT_OK


def _compare(argv: list[str]) -> int:
    args = _parsed(
        "compare",
        argv,
        ("runs", {"metavar": "RUN", "nargs": "+", "help": "folders of runs, two or more"}),
        ("--out", {"default": "compare.html", "help": "the page (default: compare.html)"}),
    )
    if len(args.runs) < 2:
        raise UserError(f"compare needs two runs or more; only {args.runs[0]} was given")
    folders = [_run_folder(path) for path in args.runs]
    from pellucid import report

    print(f"comparison: {report.write_comparison(folders, Path(args.out))}")
    return EXIT_OK


def _sweep(argv: list[str]) -> int:
    count = {"type": _at_least_one, "metavar": "N"}
    args = _parsed(
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


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _view(argv: list[str]) -> int:
    args = _parsed("view", argv, ("run", {"metavar": "RUN", "help": "the folder of a run"}))
    folder = _run_folder(args.run)
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
    newest = max((s.stat().st_mtime_ns for s in sources if s.exists()), default=0)
    return page.exists() and page.stat().st_mtime_ns >= newest


def _replay(argv: list[str]) -> int:
    args = _parsed(
        "replay",
        argv,
        ("run", {"metavar": "RUN", "help": "the folder of a run"}),
        ("step", {"metavar": "STEP", "type": int, "help": "the step to run again"}),
    )
    if args.step < 0:
        raise RunError(f"step {args.step} is not accepted; expected 0 or more")
    _run_folder(args.run)
    from pellucid.train import replay

    return replay(Path(args.run), args.step)


def _bench(argv: list[str]) -> int:
    args, words = argv[:1], argv[1:]
    if args == ["train"]:
        from pellucid.experiments import bench_train as bench
    elif args == ["models"]:
        from pellucid.experiments import bench_models as bench
    elif args == ["fillings"]:
        from pellucid.experiments import first_steps as bench
    elif args == ["widths"]:
        from pellucid.experiments import bench_widths as bench
    elif args == ["kernels"]:
        from pellucid.kernels import bench
    elif args in (["-h"], ["--help"]):
        print("usage: pellucid bench train|kernels|models|fillings|widths [word ...]")
        return EXIT_OK
    else:
        raise UserError(
            f"bench {' '.join(args)} is not known; "
            f"expected bench train, kernels, models, fillings or widths"
        )
    return bench.main(words)


COMMANDS = {
    "train": _train,
    "eval": _eval,
    "compare": _compare,
    "sweep": _sweep,
    "view": _view,
    "replay": _replay,
    "bench": _bench,
}

if __name__ == "__main__":
    sys.exit(main())
