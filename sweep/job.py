"""One cell as a job of a cluster: what runs on a node, and what it leaves in the grid's folder.

Nothing comes back to the runner but what lies in that folder, which all nodes must see: so a job
that was lost and one that was killed look alike, and so do a first runner and its successor.
"""

import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pellucid.errors import EXIT_OK, EXIT_RESUME, EXIT_USER, RunError
from pellucid.sweep.fitted import Fit
from pellucid.sweep.folder import Failure, GridFolder
from pellucid.sweep.grid import Cell

IN_USE = "is in use by"
"""What a run says that another process is training."""
NONFINITE = "its loss or gradient was not finite; `pellucid replay` shows the step"


def task_of(
    folder: GridFolder, cell: Cell, *, suite: str, split: str, threads: int
) -> dict[str, Any]:
    """What a process is told that is to run a cell; plain JSON."""
    return {
        "words": [*cell.words, f"train.threads={threads}"],
        "path": str(folder.run(cell.name).path),
        "log": str(folder.logs / f"{cell.name}.log"),
        "suite": suite,
        "split": split,
        "selected_by": list(cell.selected_by),
        "circuits": cell.circuits and asdict(cell.circuits),
        "fit": cell.fit and _fit(folder, cell.fit),
        "matched": cell.matched and dict(cell.matched),
        "against": [str(folder.run(name).path) for name in cell.against],
    }


def _fit(folder: GridFolder, fit: Fit) -> dict[str, Any]:
    return {"source": str(folder.run(fit.source).path), "words": list(fit.words)}


def job_of(task: dict[str, Any], folder: GridFolder, name: str, threads: int) -> dict[str, Any]:
    """A task with what a node must know besides: where the grid is, and where words lead from."""
    about = {"grid": str(folder.path.resolve()), "name": name, "cwd": str(Path.cwd())}
    return task | about | {"threads": threads}


def run_cell(job: dict[str, Any]) -> int:
    """Train and score a cell unless it is done or another process is at it; its exit code.

    75: a signal asked to stop, and it is saved. A failure is noted in the grid's folder. Raises
    RunError where this machine does not see that folder.
    """
    folder, name = GridFolder(job["grid"]), job["name"]
    if not folder.grid_file.exists():
        raise RunError(
            f"{socket.gethostname()} does not see {folder.path}: give --out a folder that all "
            f"machines of the cluster share"
        )
    os.chdir(job["cwd"])
    with folder.claim(name) as mine:
        if not mine or folder.state(name, job["suite"]) in ("done", "failed"):
            return EXIT_OK
        return _served(job, folder)


def _served(job: dict[str, Any], folder: GridFolder) -> int:
    import torch

    from pellucid.sweep.worker import serve

    torch.set_num_threads(job["threads"])
    answer = serve(job)
    code, reason = answer["code"], answer["reason"]
    held = code == EXIT_USER and IN_USE in reason
    if code not in (EXIT_OK, EXIT_RESUME) and not held:
        folder.fail(job["name"], Failure(reason, code, 1))
    return code
