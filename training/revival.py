"""Dead units: how many there are, and the one rule by which they are revived."""

import hashlib
from collections.abc import Iterator

import torch
from torch import nn

from pellucid.config import RunConfig
from pellucid.models import unwrap
from pellucid.models.filling import Told
from pellucid.training.optimizers import Optimizers


def mortal(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Fillings whose units can die, by name."""
    for name, module in unwrap(model).named_modules():
        if hasattr(module, "dead"):
            yield name, module


def dead_share(model: nn.Module, after: int) -> float | None:
    """Share of units silent over the last `after` tokens of training; None without such units."""
    masks = [module.dead(after) for _, module in mortal(model)]
    return float(torch.cat(masks).float().mean()) if masks else None


def active_units(told: Told, tokens: int) -> float | None:
    """Mean active units per token and layer, from the step's firing counts."""
    counts = [value for name, value in told.items() if name.endswith("sum/fired")]
    return (
        float(torch.stack([c.sum() for c in counts]).double().mean()) / tokens if counts else None
    )


def revive(config: RunConfig, model: nn.Module, optimizers: Optimizers, step: int) -> int:
    """Revive dead units as the configuration allows; returns how many were given a new start."""
    train = config.train
    due = train.revive_every and (step + 1) % train.revive_every == 0
    if not due or train.revive_budget == 0:
        return 0
    revived = 0
    for name, module in mortal(model):
        if not hasattr(module, "revive"):
            continue
        generator = torch.Generator().manual_seed(_seed(config.seed, step, name))
        rows = module.revive(train.revive_after, train.revive_budget, generator)
        for parameter, which in rows.items():
            optimizers.clear_rows(f"{name}.{parameter}", which)
        revived += max((len(which) for which in rows.values()), default=0)
    return revived


def _seed(seed: int, step: int, name: str) -> int:
    """Drawn from the place alone, so that every process and every resumed run draws the same."""
    digest = hashlib.sha256(f"{seed}/{step}/{name}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
