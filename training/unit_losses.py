"""`train.losses`: functions of a user's own that add to the loss what recorded units do."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pellucid.config import RunConfig
from pellucid.data.store import file_sha256
from pellucid.errors import ConfigError, RunError
from pellucid.models import Transformer
from pellucid.models.units import Trace
from pellucid.settings.kinds import nearest, shown
from pellucid.settings.modules import users_module

KINDS = ("labels", "tasks")
"""What a function may say that it uses, of a family: such metrics do not evaluate the run."""


@dataclass(frozen=True, kw_only=True)
class UnitLoss:
    """One function, the sites it is given, the SHA-256 of its file, and the families it uses."""

    name: str
    function: Callable[[Trace, Tensor, Tensor], Tensor]
    sites: tuple[str, ...]
    sha256: str
    uses: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it."""
        found = {"function": self.name, "source_sha256": self.sha256, "sites": list(self.sites)}
        return found | ({"uses": list(self.uses)} if self.uses else {})

    def __call__(self, trace: Trace, logits: Tensor, rows: Tensor) -> Tensor:
        """Its mean over a micro-batch; RunError for what no gradient could come from."""
        value = self.function(trace, logits, rows)
        if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
            told = f"{tuple(value.shape)} tensor" if isinstance(value, Tensor) else shown(value)
            raise RunError(
                f"train.losses: {self.name} returned {told}; "
                f"one number as a tensor that depends on the recorded units is accepted"
            )
        return value.to(logits.dtype)


def open_losses(config: RunConfig, vocab_size: int) -> tuple[UnitLoss, ...]:
    """Import the functions that `train.losses` names and find their sites.

    Raises ConfigError for a module that cannot be imported, a function that it lacks, and sites
    that are not declared or that the model does not have, and for families that are none.
    """
    if not config.train.losses:
        return ()
    with torch.device("meta"):
        there = list(Transformer(config.model, vocab_size=vocab_size).sites())
    return tuple(_open(name, there) for name in config.train.losses)


def same_as(losses: Iterable[UnitLoss], begun_with: Iterable[Mapping[str, Any]]) -> None:
    """Raise RunError where a function's file or sites have changed since the run was begun."""
    for loss, facts in zip(losses, begun_with, strict=True):
        if loss.facts() != dict(facts):
            raise RunError(
                f"train.losses: the file of {loss.name} has changed since this run was begun "
                f"(SHA-256 {facts['source_sha256'][:12]} then, {loss.sha256[:12]} now); "
                f"the old one is accepted, or another folder with run=…"
            )


def _open(name: str, there: list[str]) -> UnitLoss:
    module_name, _, attribute = name.partition(":")
    module = _imported(name, module_name)
    function = vars(module).get(attribute)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if hasattr(value, "sites")]
        hint = nearest(attribute, functions) if functions else "; it has none with sites"
        raise ConfigError(f"train.losses = {name}: {module_name} has no such function{hint}")
    if module.__file__ is None:
        raise ConfigError(f"train.losses = {name}: a module that is a file is accepted")
    sha256 = file_sha256(Path(module.__file__))
    about = {"sites": _sites(name, function, there), "uses": _uses(name, function)}
    return UnitLoss(name=name, function=function, sha256=sha256, **about)


def _imported(name: str, module_name: str) -> ModuleType:
    try:
        return users_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"train.losses = {name}: {module_name} cannot be imported "
            f"({type(error).__name__}: {error}); a module that is installed or lies in the "
            f"working folder is accepted"
        ) from error


def _sites(name: str, function: Callable, there: list[str]) -> tuple[str, ...]:
    declared = getattr(function, "sites", None)
    patterns = (declared,) if isinstance(declared, str) else tuple(declared or ())
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise ConfigError(
            f"train.losses = {name}: its attribute `sites` is {shown(declared)}; "
            f"names of sites or patterns such as 'blocks.*.mlp' are accepted"
        )
    for pattern in patterns:
        if not fnmatch.filter(there, pattern):
            raise ConfigError(
                f"train.losses = {name}: the model has no site {pattern!r}{nearest(pattern, there)}"
            )
    return tuple(s for s in there if any(fnmatch.fnmatchcase(s, pattern) for pattern in patterns))


def _uses(name: str, function: Callable) -> tuple[str, ...]:
    declared = getattr(function, "uses", ())
    families = (declared,) if isinstance(declared, str) else declared
    if not isinstance(families, tuple | list) or not all(map(_is_family, families)):
        raise ConfigError(
            f"train.losses = {name}: its attribute `uses` is {shown(declared)}; families of "
            f"labels or tasks such as 'labels:dev' are accepted"
        )
    return tuple(families)


def _is_family(name: Any) -> bool:
    kind, _, which = name.partition(":") if isinstance(name, str) else ("", "", "")
    return kind in KINDS and bool(which)
