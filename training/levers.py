"""What a run takes from elsewhere: first weights, a teacher, losses on its units."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from pellucid import checkpoint
from pellucid.config import RunConfig
from pellucid.data import TokenData
from pellucid.models import record
from pellucid.models.units import Trace
from pellucid.run import RunFolder
from pellucid.storage import sealed
from pellucid.training import distill, inherit, unit_losses
from pellucid.training.sources import Source, open_source, same_everywhere

DISTANCE = "teacher_kl"
"""The metric: mean KL(teacher ‖ student) in nats per token, at the temperature."""


class Levers:
    """Opens what a configuration names, and raises UserError before anything is written."""

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        data: TokenData,
        matched: Mapping[str, Any] | None = None,
    ):
        self.config, self.matched = config, matched
        begun = folder.read_manifest() if folder.exists() else {}
        # Once a checkpoint is there, the run has weights of its own and its source may be gone.
        starts = config.train.init_from is not None and not _has_checkpoint(folder)
        self._source = _open_first(config, data) if starts else None
        self._teacher = _open_teacher(config, data, begun) if config.train.teacher else None
        self.losses = unit_losses.open_losses(config, data.vocab_size)
        unit_losses.same_as(
            self.losses, begun.get("losses", [loss.facts() for loss in self.losses])
        )
        self.teacher: distill.Teacher | None = None

    def facts(self) -> dict[str, Any]:
        """For the manifest of a run that begins: its origin, what entered its loss, its match."""
        opened = {"init_from": self._source, "teacher": self._teacher}
        origin = {name: source.facts() for name, source in opened.items() if source}
        found = {"origin": origin or "scratch", "losses": [loss.facts() for loss in self.losses]}
        return found | ({"matched": dict(self.matched)} if self.matched else {})

    def place(self, accelerator: Accelerator) -> None:
        """Bring the teacher to the device, once all processes are seen to have opened the same."""
        for source in filter(None, (self._source, self._teacher)):
            same_everywhere(source, accelerator)
        if self._teacher:
            self.teacher = distill.Teacher(self._teacher, self.config, accelerator)

    def start(
        self, folder: RunFolder, model: nn.Module, data: TokenData, accelerator: Accelerator
    ) -> list[str]:
        """Give a model at its first step the weights it starts from; lines for the user."""
        if self._source is None:
            return []
        facts, lines = inherit.start_from(self._source, self.config, model, data, accelerator)
        if accelerator.is_main_process:
            origin = self.facts()["origin"] | {"init_from": facts}
            folder.update_manifest(origin=origin)
        self._source = None
        return lines

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[list[Trace]]:
        """Record, with their gradient, the units that each loss asks for: one trace for each."""
        with ExitStack() as stack:
            watched = [record(model, loss.sites, grad=True) for loss in self.losses]
            yield [stack.enter_context(one) for one in watched]

    def parts(self, traces: list[Trace], logits: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """What is added to the loss, by metric: means over a micro-batch of rows."""
        pairs = zip(self.losses, traces, strict=True)
        named = {f"loss/{loss.name}": loss(trace, logits, rows) for loss, trace in pairs}
        if self.teacher is None:
            return named
        return {DISTANCE: self.teacher.distance(rows[:, :-1], logits)} | named

    def objective(self, parts: Mapping[str, Tensor]) -> Tensor:
        """What is minimized, of `loss`, `auxiliary` and the parts above."""
        loss = parts["loss"]
        if self.teacher is not None:
            loss = self.teacher.mixed(loss, parts[DISTANCE])
        named = [value for name, value in parts.items() if name.startswith("loss/")]
        return sum([parts["auxiliary"], *named], start=loss)


def _open_first(config: RunConfig, data: TokenData) -> Source:
    source = open_source("init_from", config.train.init_from, data)
    inherit.check(source, config)
    return source


def _open_teacher(config: RunConfig, data: TokenData, begun: Mapping[str, Any]) -> Source:
    """The teacher at its newest checkpoint, or at the one with which a run was begun."""
    known = begun["origin"]["teacher"] if begun else None
    source = open_source("teacher", config.train.teacher, data, known and known["step"])
    distill.check(source, config)
    if known:
        source.same_as(known)
    return source


def _has_checkpoint(folder: RunFolder) -> bool:
    steps = checkpoint.steps(folder.checkpoints)
    places = [checkpoint.folder(folder.checkpoints, step) for step in steps]
    return any((place / sealed.MANIFEST).exists() for place in places)
