"""The commands: `pellucid train | eval | circuit | compare | sweep | posthoc | view | replay | bench`.

A mistake of the user is one line on stderr and exit code 2. What needs torch is imported by the
command that needs it, so that `--help` and `--version` answer at once.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pellucid import __version__
from pellucid.commands import benches, circuits, grids, posthoc, runs
from pellucid.errors import EXIT_OK, EXIT_USER, UserError
from pellucid.settings.kinds import nearest, shown

EXIT_INTERRUPTED = 130
USERS_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

USAGE = """\
Pellucid trains transformers that are interpretable by construction, and tests if they are.

  pellucid train [PRESET] [path=value ...] [run=FOLDER] [--print-config]
      Train a preset (tiny, small, base) with changes; the same command again resumes.
      pellucid train --help lists every field. match=dense by=params trains the dense baseline
      of those words instead (by: params, active, nonzero, flops, tokens, step_time).
  pellucid eval RUN [--step N] [--suite quick] [--split val] [--dense RUN] [--seeds RUN ...]
      Score a run beside its controls, and write its report.
  pellucid circuit RUN --task T [--edges] [--target 0.15] [--distance 32] [--no-controls] [--force]
      Find the smallest part of a run's model that does a task (all: of each), by pruning.
  pellucid view RUN
      Open the report of a run in a browser.
  pellucid compare RUN RUN ... [--out FILE]
      Set runs side by side in one page.
  pellucid compare GRID [--out FILE] [--markdown FILE] [--csv FILE] [--figures FOLDER]
      The arms of a grid: differences, frontier, tuning curves, what failed.
  pellucid sweep FILE [--out FOLDER] [--workers N] [--engine local|slurm|ray]
                 [--slot 30m] [--dry-run] [--retry]
      Run the missing cells of an ablation grid; stop and start it at will.
  pellucid posthoc RUN [--kind transcoder] [field=value ...]
      Fit sparse coders to a dense run, and write the model with all of them as a run (kind:
      transcoder, skip_transcoder, crosslayer_transcoder, sae, matryoshka).
  pellucid replay RUN STEP
      Run one step again, to see what was not finite.
  pellucid bench train|kernels|models|fillings|widths|pack [word ...]
      Measure the trainer or the kernels on this machine.

  pellucid --version    pellucid COMMAND --help
"""


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

    words, matched = _matched(words, Path(runs[-1]) if runs else None)
    config = experiments.run_config(words)
    if {"-h", "--help"} & set(options):
        return _show("field_help", config)
    base = experiments.preset(config.preset)
    folder = Path(runs[-1]) if runs else Path("runs") / default_run_name(config, base)
    if "--print-config" in options:
        return _show("print_config", config, folder)
    from pellucid.train import train

    return train(config, folder, matched)


def _matched(words: list[str], run: Path | None = None) -> tuple[list[str], Any]:
    """The words of a run, or of the baseline that `match=` asks for, and what its manifest says.

    What was found is printed; a run that was begun with it keeps it, times being other ones today.
    """
    asked = dict(word.split("=", 1) for word in words if word.startswith(("match=", "by=")))
    if not asked:
        return words, None
    if "match" not in asked:
        raise UserError("by= needs match=, as in match=dense by=params")
    from pellucid.experiments import matching

    rest = [word for word in words if not word.startswith(("match=", "by="))]
    tag, by = asked["match"], asked.get("by", "params")
    if run and (before := matching.begun_with(run, rest, tag, by)):
        return before["words"], before
    if by == "step_time" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("by=step_time is measured by one process; begin the run with one")
    found = matching.match(rest, tag, by)
    if os.environ.get("RANK", "0") == "0":
        print("\n".join(found.lines), flush=True)
    return list(found.words), found.facts


def _show(name: str, *args: Any) -> int:
    """Print a page about a configuration, from the first process only."""
    from pellucid.settings import pages

    if os.environ.get("RANK", "0") == "0":
        getattr(pages, name)(*args)
    return EXIT_OK


COMMANDS = {
    "train": _train,
    "eval": runs.evaluate,
    "circuit": circuits.circuit,
    "compare": runs.compare,
    "sweep": grids.run_grid,
    "posthoc": posthoc.posthoc,
    "view": runs.view,
    "replay": runs.replay,
    "bench": benches.bench,
}

if __name__ == "__main__":
    sys.exit(main())
