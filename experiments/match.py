"""A configuration and the one that matches it: their accounts, side by side and for a manifest."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pellucid.config import RunConfig, identity_hash
from pellucid.models import Account

COUNTS: dict[str, Callable[[Account], float]] = {
    "params": lambda size: size.total,
    "active": lambda size: size.active,
    "nonzero": lambda size: size.nonzero,
    "flops": lambda size: size.flops_executed,
}
"""What can be counted without running anything."""
Times = tuple[list[float], list[float]]
"""Seconds of steps of both models, taken in turns."""


@dataclass(frozen=True)
class Match:
    """A configuration and the one that matches it, with their accounts."""

    filling: str
    by: str
    to: tuple[str, ...]
    """what the target is started with"""
    target: RunConfig
    found: RunConfig
    words: tuple[str, ...]
    """what the found one is started with"""
    accounts: tuple[Account, Account]
    times: Times | None = None
    """the steps that were timed, where times were matched"""

    @property
    def sizes(self) -> dict[str, list[float]]:
        """Of the target and of the found one, by measure."""
        counted = {name: list(map(count, self.accounts)) for name, count in COUNTS.items()}
        return counted | {"tokens": [tokens(self.target), tokens(self.found)]}

    @property
    def facts(self) -> dict[str, Any]:
        """For the manifest of the found one: what it was matched with, by what, how closely."""
        sizes = self.sizes
        if self.times:
            sizes["step_time"] = [statistics.median(taken) for taken in self.times]
        about = {"to": list(self.to), "to_identity": identity_hash(self.target)}
        ratio = sizes[self.by][1] / sizes[self.by][0]
        about |= {"words": list(self.words), "sizes": sizes, "ratio": ratio}
        if self.times:
            about["step_time_spread"] = [[min(taken), max(taken)] for taken in self.times]
        return {"filling": self.filling, "by": self.by, **about}

    @property
    def lines(self) -> list[str]:
        """Both accounts side by side, for a terminal."""
        head = f"{'':22}{'target':>18}{'matched':>18}{'difference':>12}"
        rows = [(name, *pair) for name, pair in self.sizes.items()]
        table = [f"{n:22}{a:18,.0f}{b:18,.0f}{b / a - 1:+12.2%}" for n, a, b in rows]
        return [
            f"matched by {self.by}: pellucid train {' '.join(self.words)}",
            head,
            *table,
            *self._timed(),
        ]

    def _timed(self) -> list[str]:
        if self.times is None:
            return []
        medians = [1e3 * statistics.median(t) for t in self.times]
        spread = [f"{1e3 * min(t):.1f} … {1e3 * max(t):.1f}" for t in self.times]
        gap = medians[1] / medians[0] - 1
        row = f"{'step, ms':22}{medians[0]:18,.1f}{medians[1]:18,.1f}{gap:+12.2%}"
        return [row, f"{'':22}{spread[0]:>18}{spread[1]:>18}"]


def tokens(config: RunConfig) -> int:
    """Tokens that a run is trained on."""
    return config.train.steps * config.train.batch * config.model.context
