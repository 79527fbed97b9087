"""Cells as the jobs of an array of Slurm, through `submitit` (extra `slurm`).

A job that is preempted or reaches its time saves, goes back into the queue under its number, and
goes on where it was.
"""

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from pellucid.errors import EXIT_RESUME, RunError, UserError
from pellucid.storage import files
from pellucid.sweep.attempts import last_line
from pellucid.sweep.extras import required
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.job import run_cell

MINUTES = 240
"""Time of a job unless a slot is given; what it does not finish goes on in its next."""
NOTICE = 90
"""Seconds before its end at which a job is told to save."""
REQUEUES = 1000
"""Times that a job may reach its time."""
ANSWER = 30.0
"""Seconds that a controller has to answer; Slurm's own programs try for ten."""
ASKED = signal.SIGUSR2
"""What submitit has Slurm send before a job's end."""


def check(options: Sequence[str]) -> None:
    """Raise UserError where submitit or Slurm is not there, or an option has no value.

    Slurm's programs may be there while no controller answers them.
    """
    required("submitit", "slurm")
    for program in ("sbatch", "srun", "sinfo"):
        if shutil.which(program) is None:
            raise UserError(
                f"there is no Slurm on this machine: {program} was not found; start the sweep where "
                f"jobs are submitted, or give --engine local"
            )
    for option in options:
        if not all(option.partition("=")[::2]):
            raise UserError(f"--sbatch {option!r} is not accepted; NAME=VALUE is")
    _answers()


def _answers() -> None:
    """Raise UserError where `sinfo`, which only asks, finds no controller."""
    try:
        asked = subprocess.run(
            ["sinfo", "--noheader", "--format=%P"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"no controller of Slurm answers: sinfo waited {ANSWER:g} s") from None
    if asked.returncode:
        said = last_line(asked.stderr) or f"sinfo ended with exit code {asked.returncode}"
        raise UserError(f"no controller of Slurm answers: {said}")


class CellJob:
    """What submitit runs on a node, and what it puts back into the queue."""

    def __init__(self, job: dict[str, Any]):
        self.job = job

    def __call__(self) -> int:
        """Run the cell; where the time is over, save it and go back into the queue."""
        requeue, idle = signal.getsignal(ASKED), signal.getsignal(signal.SIGTERM)
        asked = []

        def save(number: int, frame: Any) -> None:
            if asked:
                return
            asked.append(number)
            if signal.getsignal(signal.SIGTERM) == idle:
                requeue(number, frame)  # it does not train: there is nothing to save
            signal.raise_signal(signal.SIGTERM)

        signal.signal(ASKED, save)
        try:
            code = run_cell(self.job)
        finally:
            signal.signal(ASKED, requeue)
        if code == EXIT_RESUME and asked:
            signal.raise_signal(ASKED)
        return code

    def checkpoint(self) -> Any:
        """What the job is after it was put back: the same, for the run's folder knows its step."""
        return required("submitit", "slurm").helpers.DelayedSubmission(CellJob(self.job))


class SlurmPool:
    """Arrays of jobs, one for each cell; Slurm's own queue holds those that wait."""

    at_once = None

    def __init__(self, folder: GridFolder, *, cluster: str = "slurm", **asked: Any):
        submitit = required("submitit", "slurm")
        self.cluster, self.job_class = cluster, submitit.SlurmJob
        self.refused = submitit.core.utils.FailedJobError
        self.jobs, self.record = folder.path / "jobs", folder.path / "jobs.json"
        self.executor = submitit.AutoExecutor(
            self.jobs.resolve(), cluster=cluster, slurm_max_num_timeout=REQUEUES
        )
        self.executor.update_parameters(**parameters(folder, **asked))

    def submit(self, jobs: Sequence[dict[str, Any]]) -> list["SlurmTask"]:
        """One array; UserError, in Slurm's words, where it is refused."""
        try:
            with self.executor.batch():
                submitted = [self.executor.submit(CellJob(job)) for job in jobs]
        except self.refused as error:
            raise UserError(f"Slurm refused the jobs: {last_line(str(error)) or '?'}") from None
        known = self._known() | {
            job["name"]: one.job_id for job, one in zip(jobs, submitted, strict=True)
        }
        files.write_json(self.record, known, RunError)
        return [SlurmTask(job) for job in submitted]

    def adopted(self) -> dict[str, "SlurmTask"]:
        """The jobs of cells that an earlier runner has submitted."""
        if self.cluster != "slurm":
            return {}
        return {n: SlurmTask(self.job_class(self.jobs, i)) for n, i in self._known().items()}

    def _known(self) -> Mapping[str, str]:
        return files.read_object(self.record, (), RunError) if self.record.exists() else {}

    def close(self) -> None:
        """Jobs need nobody to end them."""


def parameters(
    folder: GridFolder,
    *,
    name: str,
    partition: str | None,
    workers: int | None,
    threads: int,
    gpus: int | None,
    minutes: int | None,
    options: Sequence[str],
) -> dict[str, Any]:
    """What submitit is told of every job."""
    setup = [
        f"export PYTHONPATH={quote(str(folder.code.resolve()))}",
        f"export OMP_NUM_THREADS={threads}",
    ]
    more = dict(option.split("=", 1) for option in options)
    told = {
        "name": f"pellucid-{name}",
        "timeout_min": minutes or MINUTES,
        "cpus_per_task": threads,
        "gpus_per_node": gpus,
        "slurm_partition": partition,
        "slurm_array_parallelism": workers,
        "slurm_signal_delay_s": NOTICE,
        "slurm_setup": setup,
        "local_setup": setup,
        "slurm_additional_parameters": {"requeue": True, **more},
    }
    return {key: value for key, value in told.items() if value is not None}


@dataclass(frozen=True)
class SlurmTask:
    """A cell that Slurm was given."""

    job: Any

    def ended(self) -> bool:
        return self.job.done()

    def cancel(self) -> None:
        """Withdraw it; where it runs, training saves."""
        self.job.cancel(check=False)

    def reason(self) -> str:
        """Why it ended: Slurm's word for it, and where its output is."""
        return f"{self.job.state}; see {self.job.paths.stderr}"
