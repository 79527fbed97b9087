"""A process that trains and scores one cell after another, told by lines on its input.

It has imported everything once, so that a cell costs what its training costs. What a cell prints
goes to its own log; answers go to the process that asked. It ends with that process: told to stop,
it saves the cell it is at.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pellucid.sweep import stacks
from pellucid.sweep.job import NONFINITE
from pellucid.training.signals import end_with_parent

if TYPE_CHECKING:
    from pellucid.run import RunFolder


def main() -> int:
    """Serve until the input ends; answers go into the pipe whose number is the second word."""
    end_with_parent()
    os.set_inheritable(pipe := int(sys.argv[2]), False)
    answers = os.fdopen(pipe, "w", encoding="utf-8")
    import torch

    from pellucid import run  # noqa: F401 - imported before the first cell is timed

    torch.set_num_threads(int(sys.argv[1]))
    _answer(answers, event="ready")
    for line in sys.stdin:
        task = json.loads(line)
        _answer(answers, event="ended", **serve(task))
    return 0


def serve(task: dict[str, Any]) -> dict[str, Any]:
    """Train and score one cell; its exit code, and the reason where it is not 0.

    Of a `stack` of tasks, the cells are trained together and not yet scored: see `stacks.trained`.
    """
    start = time.monotonic()
    stack = task.get("stack")
    with Path((stack or [task])[0]["log"]).open("a", encoding="utf-8") as log, _to(log):
        if stack:
            return stacks.trained(stack)
        code, reason = _attempt(task)
    return {"code": code, "reason": reason, "seconds": time.monotonic() - start}


def _attempt(task: dict[str, Any]) -> tuple[int, str]:
    from pellucid import report, run
    from pellucid.errors import EXIT_NONFINITE, EXIT_USER, NonFiniteError, UserError

    try:
        path = Path(task["path"])
        code = _made(task, path)
        if code == EXIT_NONFINITE:
            return code, NONFINITE
        if code:
            return code, "it was asked to stop"
        if task["selected_by"]:
            run.RunFolder(path).update_manifest(selected_by=task["selected_by"])
        if task["against"]:
            _compare(task, run.RunFolder(path))
        elif task["suite"]:
            _score(task, run.RunFolder(path))
            report.write_report(run.RunFolder(path))
        return 0, ""
    except UserError as error:
        code = EXIT_NONFINITE if isinstance(error, NonFiniteError) else EXIT_USER
        return code, " ".join(str(error).split())
    except MemoryError:
        return 1, "it ran out of memory"
    except Exception as error:  # noqa: BLE001 - one cell's defect must not end the others
        import traceback

        traceback.print_exc()
        return 1, f"{type(error).__name__}: {error}"[:500]


def _made(task: dict[str, Any], path: Path) -> int:
    """Train a cell, or fit it to another one's run; the exit code of the training."""
    from pellucid.experiments import run_config
    from pellucid.posthoc import posthoc
    from pellucid.run import RunFolder
    from pellucid.storage import files
    from pellucid.train import train

    if not task["fit"]:
        return train(run_config(task["words"]), path, task["matched"])
    found = RunFolder(path)
    if not (found.exists() and found.is_finished):
        if path.exists():  # a fit that was killed begins again: it takes minutes
            files.discard(path)
        # Of a grid a frozen dictionary is an arm of its own, tuned and scored as all are.
        posthoc(task["fit"]["source"], task["fit"]["words"], path, twin=False)
    return 0


def _score(task: dict[str, Any], folder: "RunFolder") -> None:
    """Search a trained cell for its circuits, and score it; the file of scores is written last."""
    import torch

    from pellucid import run
    from pellucid.eval import evaluate
    from pellucid.sweep import scoring
    from pellucid.sweep.circuits import Circuits, taken

    scoring.mark(folder, task["suite"])
    split, beside, before = task["split"], [], 0.0
    if asked := task["circuits"]:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        beside = taken(run.load(folder.path, device=device), Circuits(**asked), split)
        before = beside[0].seconds
        scoring.mark(folder, task["suite"])
    begun, loaded = time.monotonic(), run.load(folder.path)
    dense = run.load(Path(task["fit"]["source"])) if task["fit"] else None
    evaluate(loaded, suite=task["suite"], split=split, dense=dense, beside=beside, progress=False)
    seconds = round(before + time.monotonic() - begun, 3)
    folder.update_manifest(
        scored={"suite": task["suite"], "seconds": seconds}, **{scoring.FIELD: None}
    )


def _compare(task: dict[str, Any], folder: "RunFolder") -> None:
    """Compare a scored cell with the other seeds of its arm."""
    from pellucid import run
    from pellucid.sweep import consistency, scoring

    scoring.mark(folder, task["suite"])
    seeds = [run.load(path) for path in task["against"]]
    about = {"suite": consistency.plain(task["suite"]), "split": task["split"]}
    consistency.add(run.load(folder.path), seeds, **about)
    folder.update_manifest(**{scoring.FIELD: None})


class _to:
    """Send everything that is printed, also by libraries, into a file."""

    def __init__(self, log: TextIO):
        self.log = log

    def __enter__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.kept = os.dup(1), os.dup(2)
        os.dup2(self.log.fileno(), 1)
        os.dup2(self.log.fileno(), 2)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for kept, number in zip(self.kept, (1, 2), strict=True):
            os.dup2(kept, number)
            os.close(kept)


def _answer(to: TextIO, **words: Any) -> None:
    to.write(json.dumps(words) + "\n")
    to.flush()


if __name__ == "__main__":
    sys.exit(main())
