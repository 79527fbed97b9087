"""A run as another process finds it: by its folder, if the model there is the one that was meant."""

from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import module as everywhere

from pellucid.eval.processes import Lost, others

if TYPE_CHECKING:
    from pellucid.run import Run

LARGEST = 2**30
"""Bytes of a model of which there may be further copies, with twins of their own."""


@dataclass(frozen=True)
class Saved:
    """Where a process finds a run, and what tells that it is the same one."""

    path: Path
    step: int
    digest: str

    @classmethod
    def of(cls, run: "Run") -> "Saved":
        return cls(run.folder.path.resolve(), run.step, digest(run))

    def load(self) -> "Run":
        """The run. Raises Lost where the model that was asked about is not the one that was saved."""
        try:
            run = _loaded(self)
        except Exception as error:  # such as a layer that only the process that asked knows
            raise Lost from error
        if digest(run) != self.digest:
            raise Lost
        return run


@lru_cache(maxsize=2)
def _loaded(saved: Saved) -> "Run":
    from pellucid.run import load

    return load(saved.path, saved.step)


def as_saved(run: "Run") -> Saved | None:
    """A run for another process; None where there is no process, or the run is not one for it.

    Such as a model on an accelerator, which is shared by all processes, or a very large one, or one
    that does here what its weights do not tell.
    """
    return Saved.of(run) if others() and _small(run.model) and _as_loaded(run.model) else None


def _as_loaded(model: nn.Module) -> bool:
    """Whether nothing is recorded or edited in the model, hooked to it or put in place of a pass."""
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return False
    if torch.is_autocast_enabled("cpu") or any(s.state.in_use for s in model.sites().values()):
        return False
    return not any(
        part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
        for part in model.modules()
    )


def _small(model: nn.Module) -> bool:
    weights = list(model.state_dict().values())
    on_cpu = all(weight.device.type == "cpu" for weight in weights)
    return on_cpu and sum(weight.nbytes for weight in weights) <= LARGEST


def digest(run: "Run") -> str:
    """Of all that a model computes with: also what is no weight, such as a number of units kept."""
    found = blake2b(repr(run.config).encode())
    for name, part in run.model.named_modules():
        plain = {key: repr(value) for key, value in vars(part).items() if _is_plain(value)}
        found.update(repr((name, type(part).__qualname__, sorted(plain.items()))).encode())
    for name, weight in (*run.model.named_parameters(), *run.model.named_buffers()):
        found.update(name.encode())
        found.update(weight.detach().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) or is_dataclass(value)
