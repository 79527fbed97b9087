"""Metrics of models alone are taken by another process, while this one is busy with units."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import module as everywhere

from pellucid.eval.processes import Later, Lost, one_thread, others
from pellucid.eval.score import Score
from pellucid.eval.sightings import Track
from pellucid.eval.suite import METRICS, SUITES, Metric, Suite
from pellucid.eval.taking import permitted, taken

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
        return cls(run.folder.path.resolve(), run.step, _digest(run))

    def load(self) -> "Run":
        """The run. Raises Lost where the model that was asked about is not the one that was saved."""
        from pellucid.run import load

        try:
            run = load(self.path, self.step)
        except Exception as error:  # such as a layer that only the process that asked knows
            raise Lost from error
        if _digest(run) != self.digest:
            raise Lost
        return run


@dataclass(frozen=True)
class Aside:
    """Metrics that another process has begun to take."""

    names: tuple[str, ...]
    begun: Later | None
    here: Callable[[], dict[str, list[Score]]]
    """takes them in this process"""

    def scores(self, track: Track) -> dict[str, list[Score]]:
        """The scores of each, once they are there."""
        if self.begun is None:
            return {}
        try:
            for later in track([self.begun], "tasks and texts, in another process", 1):
                found = later.get()
        except Exception:  # noqa: BLE001 - such as of labels that only this process can import
            with one_thread():
                return self.here()
        return found


def aside(run: "Run", names: Sequence[str], *, dense: "Run | None", **how: Any) -> Aside:
    """Begin those of some metrics that look at models alone, where there is a process for it.

    Not of a model on an accelerator, which is shared by all processes, nor of a very large one, nor
    of one that does here what its weights do not tell.
    """
    alone = tuple(name for name in names if METRICS[name].alone)
    here = partial(_taken, run, alone, dense=dense, **how)
    models = [run.model] if dense is None else [run.model, dense.model]
    if not others() or not alone or not all(_small(m) and _as_loaded(m) for m in models):
        return Aside((), None, here)
    table = {"metrics": {name: METRICS[name] for name in alone}, "limits": SUITES[how["suite"]]}
    saved = {"dense": None if dense is None else Saved.of(dense), **table, **how}
    return Aside(alone, Later(partial(_loaded, Saved.of(run), **saved)), here)


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


def _digest(run: "Run") -> str:
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


def _loaded(
    saved: Saved,
    *,
    metrics: Mapping[str, Metric],
    limits: Suite,
    dense: Saved | None,
    **how: Any,
) -> dict[str, list[Score]]:
    """The scores of saved runs. Raises Lost where metrics or the suite are others than were asked."""
    if SUITES.get(how["suite"]) != limits or not metrics.items() <= METRICS.items():
        raise Lost
    run, beside = saved.load(), None if dense is None else dense.load()
    return _taken(run, tuple(metrics), dense=beside, **how)


def _taken(run: "Run", names: tuple[str, ...], **how: Any) -> dict[str, list[Score]]:
    """The scores of each of some metrics, at a bench of their own."""
    from pellucid.eval.evaluate import workbench

    bench = workbench(run, **how)
    chosen = {name: METRICS[name] for name in names}
    allowed = permitted(run, chosen, split=how["split"], by_name=False)
    return {name: taken(bench, name, metric) for name, metric in allowed.items()}
