"""Cells as tasks of Ray (extra `ray`): of a cluster that runs, or of one on this machine alone."""

import math
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import UserError
from pellucid.sweep.attempts import last_line
from pellucid.sweep.extras import required
from pellucid.sweep.job import run_cell

ANSWER = 5.0
"""Seconds that a cluster has to answer at its address."""
KEPT = ("PELLUCID_", "TRITON_", "HF_")
"""Beginnings of the environment variables that cells are given, on whatever node."""


def check(address: str | None) -> None:
    """Raise UserError where Ray is not installed, or there is no cluster at an address."""
    ray = required("ray")
    if not address:
        return
    if address != "auto":
        _answers(address)
    _begin(ray, address, None, 1)
    ray.shutdown()


def _answers(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"--address {address!r} is not accepted; auto or HOST:PORT is")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {error}") from None


class RayPool:
    """Tasks, each with its share of the cluster; Ray's own queue holds those that wait.

    A `bounded` call has none wait there: what is begun late does not fit into it any more.
    """

    def __init__(
        self,
        code: Path,
        *,
        address: str | None,
        workers: int | None,
        threads: int,
        gpus: float | None,
        bounded: bool = False,
    ):
        self.ray = required("ray")
        _begin(self.ray, address, workers, threads)
        has = self.ray.cluster_resources()
        share = gpus if gpus is not None else float(has.get("GPU", 0) > 0)
        fits = _fits(has, threads, share)
        self.at_once = min(workers or fits, fits) if bounded else workers
        told = {key: value for key, value in os.environ.items() if key.startswith(KEPT)}
        told |= {"PYTHONPATH": str(code.resolve()), "OMP_NUM_THREADS": str(threads)}
        options = {"num_cpus": threads, "num_gpus": share, "max_retries": 0}
        task = self.ray.remote(**options, runtime_env={"env_vars": told})
        self.task = task(run_cell)

    def submit(self, jobs: Sequence[dict[str, Any]]) -> list["RayTask"]:
        """One task for each cell."""
        return [RayTask(self.ray, self.task.remote(job)) for job in jobs]

    def adopted(self) -> dict[str, "RayTask"]:
        """Ray ends the tasks of a runner that is gone."""
        return {}

    def close(self) -> None:
        """Leave the cluster; one on this machine alone ends."""
        self.ray.shutdown()


def _fits(has: Mapping[str, float], threads: int, share: float) -> int:
    """How many tasks of so many CPUs and that share of a GPU run at once; never none."""
    by_gpu = has.get("GPU", 0) / share if share else math.inf
    # A third of a GPU is a little less or more than that: rounding must not cost a task.
    return max(1, math.floor(min(has.get("CPU", 0) / threads, by_gpu) + 1e-6))


def _begin(ray: Any, address: str | None, workers: int | None, threads: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that a grid runs
    # Today's way: without it Ray changes CUDA_VISIBLE_DEVICES of tasks that ask for no GPU.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    alone = {"num_cpus": workers and workers * threads, "include_dashboard": False}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="error",
            **({} if address else alone),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"no Ray cluster could be joined at {address or 'this machine'}: {said}"
        ) from None


@dataclass(frozen=True)
class RayTask:
    """A cell that Ray was given."""

    ray: Any
    reference: Any

    def ended(self) -> bool:
        return bool(self.ray.wait([self.reference], timeout=0)[0])

    def cancel(self) -> None:
        """Interrupt it as Ctrl-C would: training saves."""
        self.ray.cancel(self.reference)

    def reason(self) -> str:
        """Why it ended, in Ray's words."""
        try:
            return f"exit code {self.ray.get(self.reference)}"
        except self.ray.exceptions.RayTaskError as error:
            # Before it there may be a whole traceback of the worker's.
            return last_line(str(error.cause)) or type(error.cause).__name__
        except self.ray.exceptions.RayError as error:
            return str(error).strip().splitlines()[0]
