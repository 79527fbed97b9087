"""The engines that run cells: this machine, Slurm, Ray; one interface.

An engine has a `board`, `run(watch)` which returns 0 or 75, and `stop()`.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from pellucid.errors import UserError
from pellucid.settings.kinds import nearest, shown
from pellucid.sweep.board import Board
from pellucid.sweep.cluster import ClusterEngine
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import Cell, Grid
from pellucid.sweep.local import LocalEngine
from pellucid.sweep.slot import Slot

ENGINES = ("local", "slurm", "ray")
SHORTEST = 20
"""Seconds of the shortest call: workers take some to begin and to save."""


class Engine(Protocol):
    """What runs cells to their end, or until it is stopped."""

    board: Board
    stopping: bool

    def run(self, watch: Callable[[Board], None]) -> int: ...
    def stop(self, *_: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where cells run, as the command line says it; fields of other engines are refused."""

    engine: str = "local"
    workers: int | None = None
    """cells at once; None: as many as the cores, the GPUs or the cluster allow"""
    threads: int = 1
    """CPU threads of a cell"""
    per_gpu: int = 1
    """cells that share a GPU of this machine, or of Ray"""
    stack: int = 1
    """of this machine: cells that a worker trains as one batched model, where they allow it; as
    many others share a GPU as processes"""
    gpus: int | None = None
    """GPUs of a cell; None: of this machine and of Ray one where there are any, of Slurm none"""
    partition: str | None = None
    """of Slurm"""
    sbatch: Sequence[str] = ()
    """other options of Slurm, NAME=VALUE"""
    address: str | None = None
    """of Ray: `auto` or HOST:PORT of a cluster that runs; None: one on this machine alone"""
    minutes: int | None = None
    """of Slurm: a job's time"""

    def at_once(self, cells: int) -> int:
        """How many of some cells run at a time, as far as this machine can tell."""
        if self.workers:
            return self.workers
        if self.engine == "slurm" or self.address:
            return max(1, cells)
        gpus = torch.cuda.device_count()
        return self.per_gpu * gpus if gpus else max(1, (os.cpu_count() or 1) // self.threads)

    def beside(self, gpus: int, most: int) -> int:
        """Further processes on the GPUs of this machine, for cells that `stack` cannot hold.

        With them as many share a GPU as would be one model there; none where `workers` says how
        many run at once.
        """
        further = gpus * max(0, self.stack - self.per_gpu)
        return 0 if self.workers else max(0, min(further, most))

    def check(self, slot: float | None = None) -> None:
        """Raise UserError for options that contradict each other."""
        if slot is not None and slot < SHORTEST:
            raise UserError(f"--slot of {slot:g} seconds is too short: {SHORTEST} or more")
        if slot and self.engine == "slurm":
            raise UserError("--slot is of --engine local or ray; a job's time is --minutes")
        if self.engine not in ENGINES:
            raise UserError(
                f"--engine {shown(self.engine)} is not accepted{nearest(self.engine, ENGINES)}"
            )
        others = {"partition": "slurm", "sbatch": "slurm", "minutes": "slurm", "address": "ray"}
        for name, engine in others.items():
            if getattr(self, name) and self.engine != engine:
                raise UserError(f"--{name} is of --engine {engine}, not of {self.engine}")
        if self.engine == "local" and self.gpus is not None:
            raise UserError("--gpus is of --engine slurm or ray; of this machine --per-gpu is")
        if self.engine != "local" and self.stack > 1:
            raise UserError(f"--stack is of --engine local, not of {self.engine}")
        if self.engine == "slurm" and self.per_gpu > 1:
            raise UserError("--per-gpu is of --engine local or ray; a job's GPUs are --gpus")

    def reach(self) -> None:
        """Raise UserError, before anything is started, where the engine cannot run here."""
        if self.engine == "slurm":
            from pellucid.sweep import on_slurm

            on_slurm.check(self.sbatch)
        elif self.engine == "ray":
            from pellucid.sweep import on_ray

            on_ray.check(self.address)

    def build(
        self,
        folder: GridFolder,
        grid: Grid,
        cells: Sequence[Cell],
        workers: int,
        slot: Slot | None = None,
    ) -> Engine:
        """The engine that runs these cells; `workers` of them at once on this machine.

        A `slot` chooses what is begun next, if anything, and when jobs of a cluster must be saved.
        """
        take = slot.take if slot else None
        told = {"suite": grid.suite, "split": grid.split, "threads": self.threads, "take": take}
        if self.engine == "local":
            gpus = list(range(torch.cuda.device_count()))
            here = {"workers": workers, "gpus": gpus, "stack": self.stack}
            beside = self.beside(len(gpus), len(cells) - workers)
            return LocalEngine(folder, cells, beside=beside, **here, **told)
        if self.engine == "slurm":
            return ClusterEngine(folder, cells, self._slurm(folder, grid), **told)
        pool, latest = self._ray(folder, slot is not None), slot.saved if slot else math.inf
        return ClusterEngine(folder, cells, pool, latest=latest, **told)

    def _slurm(self, folder: GridFolder, grid: Grid) -> Any:
        from pellucid.sweep.on_slurm import SlurmPool

        return SlurmPool(
            folder,
            name=grid.name,
            partition=self.partition,
            workers=self.workers,
            threads=self.threads,
            gpus=self.gpus,
            minutes=self.minutes,
            options=self.sbatch,
        )

    def _ray(self, folder: GridFolder, bounded: bool) -> Any:
        from pellucid.sweep.on_ray import RayPool

        gpus = None if self.gpus is None and self.per_gpu == 1 else (self.gpus or 1) / self.per_gpu
        about = {"address": self.address, "workers": self.workers, "threads": self.threads}
        return RayPool(folder.code, gpus=gpus, bounded=bounded, **about)
