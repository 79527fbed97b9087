"""`train.init_from`: a model starts from another run's weights, converted where layers differ."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pellucid.config import RunConfig
from pellucid.data import TokenData
from pellucid.models import unwrap
from pellucid.models.inherit import dense_of
from pellucid.models.sharding import like
from pellucid.training.signals import StopRequest
from pellucid.training.sources import Source
from pellucid.training.state import model_state
from pellucid.training.validation import validate


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """Names of this model's tensors by what became of them, and of the source's unused ones."""

    copied: list[str]
    converted: list[str]
    left: list[str]
    unused: list[str]

    def lines(self) -> list[str]:
        """One line for each kind that there is, equal layers named once."""
        told = {
            "copied": self.copied,
            "converted": self.converted,
            "left at their initial values": self.left,
            "not used": self.unused,
        }
        return [f"{len(n)} tensors {what}: {_short(n)}" for what, n in told.items() if n]


def check(source: Source, config: RunConfig) -> None:
    """Raise RunError where the source's blocks are not as many or as wide as this model's."""
    theirs, ours = source.run.config.model, config.model
    source.agree("n_layers", theirs.n_layers, ours.n_layers)
    source.agree("d_model", theirs.d_model, ours.d_model)


def start_from(
    source: Source, config: RunConfig, model: nn.Module, data: TokenData, accelerator: Accelerator
) -> tuple[dict[str, Any], list[str]]:
    """Give the model the source's weights; facts for the manifest, and lines for the user.

    Both are validated on the same rows, of the shorter context of the two.
    """
    theirs = source.place(config, accelerator)
    shorter = min(theirs.config.context, config.model.context)
    measured = config.replace(model=config.model.replace(context=shorter))

    def held_out(one: nn.Module) -> float:
        with accelerator.autocast():
            return validate(measured, one, data, accelerator, StopRequest())["loss"]

    found = inherit(model, source.state())
    before, after = held_out(theirs), held_out(model)
    losses = {"source": before, "converted": after, "gap": after - before, "context": shorter}
    lines = [f"starts from {source.name} at step {source.run.step}", *found.lines()]
    lines.append(
        f"held-out loss {before:.4f} nats per token in {source.name}, {after:.4f} as taken over: "
        f"a gap of {after - before:+.4f}"
    )
    return source.facts() | vars(found) | {"held_out": losses}, lines


@torch.no_grad()
def inherit(model: nn.Module, source: Mapping[str, Tensor]) -> Inherited:
    """Take from a state what fits by name and shape, and dense MLPs where a layer can take them."""
    inner = unwrap(model)
    own, names = inner.state_dict(), model_state(inner).keys()
    converted, spent = _convert(inner, source)
    copied = {
        name
        for name in names - converted
        if name in source and name not in spent and source[name].shape == own[name].shape
    }
    # In one order in every process: sharded tensors are dealt out by all of them together.
    for name in sorted(copied):
        own[name].copy_(like(source[name], own[name]))
    return Inherited(
        copied=sorted(copied),
        converted=sorted(converted),
        left=sorted(names - converted - copied),
        unused=sorted(source.keys() - spent - own.keys()),
    )


def _convert(model: nn.Module, source: Mapping[str, Tensor]) -> tuple[set[str], set[str]]:
    """Hand dense MLPs to layers whose parameters are others; names set, and names used for it."""
    converted, spent = set(), set()
    for layer, block in enumerate(model.blocks):
        prefix = f"blocks.{layer}.mlp."
        there = {n.removeprefix(prefix): v for n, v in source.items() if n.startswith(prefix)}
        own = {name: value.shape for name, value in block.mlp.named_parameters()}
        same = all(name in there and there[name].shape == own[name] for name in own)
        dense = None if same else dense_of(there)
        taken = block.mlp.take_dense(*dense.values()) if dense else ()
        converted |= {prefix + name for name in taken}
        spent |= {prefix + name for name in dense} if taken else set()
    return converted, spent


def _short(names: Iterable[str]) -> str:
    """Names with `*` for the number of a layer, each once."""
    return ", ".join(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))
