"""Another run's weights, where a run starts from them or learns from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from pellucid import checkpoint
from pellucid.config import RunConfig, identity_hash
from pellucid.data import TokenData
from pellucid.errors import RunError, UserError
from pellucid.models import Transformer
from pellucid.run import Run, load
from pellucid.training.seen import seen


@dataclass(frozen=True)
class Source:
    """A run that a field of TrainConfig names, opened at one checkpoint."""

    field: str
    run: Run

    @property
    def name(self) -> str:
        return self.run.folder.name

    @property
    def model(self) -> Transformer:
        return self.run.model

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it: its own origin too, and what it had seen by now."""
        manifest = self.run.folder.read_manifest()
        return {
            "run": self.name,
            "step": self.run.step,
            "weights_sha256": self._weights_sha256(),
            "config_sha256": identity_hash(self.run.config),
            "data_fingerprint": manifest["data_fingerprint"],
            "origin": manifest.get("origin", "scratch"),
            "seen": seen(self.run.folder),
        }

    def same_as(self, facts: Mapping[str, Any]) -> None:
        """Raise RunError unless these are the weights that the manifest speaks of."""
        if self._weights_sha256() != facts["weights_sha256"]:
            raise RunError(
                f"train.{self.field}: step {self.run.step} of {self.run.folder.path} has other "
                f"weights than when this run was begun; the old ones are accepted"
            )

    def agree(self, what: str, theirs: Any, ours: Any) -> None:
        """Raise RunError unless the source's value is this run's."""
        if theirs != ours:
            raise RunError(
                f"train.{self.field} is {self.run.folder.path}, whose {what} is {theirs}; "
                f"that of this run, {ours}, is accepted"
            )

    def place(self, config: RunConfig, accelerator: Accelerator) -> Transformer:
        """The model frozen, in evaluation mode, on the device and in the precision of this run."""
        exact = config.train.precision == "fp64"
        dtype = torch.float64 if exact else torch.float32
        return self.model.to(accelerator.device, dtype).eval().requires_grad_(False)

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name; a tied parameter stands under each of its names."""
        return self.model.state_dict()

    def _weights_sha256(self) -> str:
        place = checkpoint.folder(self.run.folder.checkpoints, self.run.step)
        return checkpoint.manifest(place)["files"][checkpoint.MODEL]["sha256"]


def open_source(field: str, path: str, data: TokenData, step: int | None = None) -> Source:
    """Open the run that a field names, at its newest checkpoint or at a step.

    Raises UserError, naming the field, where there is no such run or checkpoint, where it is
    damaged, and where its tokens are not those of `data`.
    """
    try:
        source = Source(field, load(Path(path), step))
    except UserError as error:
        raise type(error)(f"train.{field}: {error}") from None
    theirs, ours = source.run.tokenizer, data.tokenizer
    if theirs.sha256 != ours.sha256:
        raise RunError(
            f"train.{field} is {path}, whose tokenizer ({theirs.vocab_size} tokens, "
            f"{theirs.sha256[:12]}) is not that of this run ({ours.vocab_size} tokens, "
            f"{ours.sha256[:12]}); a run on the same tokenizer is accepted"
        )
    return source


def same_everywhere(source: Source, accelerator: Accelerator) -> None:
    """Raise RunError where a source that is still in training moved on between two processes."""
    step = torch.tensor([source.run.step], device=accelerator.device)
    if len(steps := accelerator.gather(step).unique()) > 1:
        raise RunError(
            f"train.{source.field}: the processes opened {source.run.folder.path} at the steps "
            f"{', '.join(map(str, steps.tolist()))}; one checkpoint is accepted: start again"
        )
