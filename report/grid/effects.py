"""Differences: each arm to the baseline at the declared endpoints, and each value of an axis.

Seeds are the independent draws. The effect of an axis is therefore averaged over the other axes
within a seed, and its interval is over seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pellucid.report.grid.arms import Arm, Group, better_of
from pellucid.sweep.statistics import HEADLINE, Effect, effect, holm, paired

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One arm, or one value of an axis, against what it is compared with."""

    metric: str
    label: str
    against: str
    found: Effect
    declared: bool
    better: str | None
    index: int = 0
    kind: str = ""
    """how the arm is drawn"""
    p_holm: float | None = None
    """corrected over all declared comparisons of the grid"""

    @property
    def exploratory(self) -> bool:
        """Not declared beforehand, or over too few seeds for a headline."""
        return not self.declared or self.found.n < HEADLINE

    @property
    def verdict(self) -> str:
        """What may be said: nothing but after the correction, and never at one seed."""
        if self.found.value is None or self.found.p is None:
            return "not known"
        p = self.found.p if self.p_holm is None else self.p_holm
        if p >= ALPHA:
            return "no difference shown"
        if self.better is None:
            return "higher" if self.found.value > 0 else "lower"
        gains = (self.found.value > 0) == (self.better == "higher")
        return "better" if gains else "worse"


def to_baseline(groups: Sequence[Group], metrics: Sequence[str], declared: bool) -> dict[str, list]:
    """{group: differences of each arm to its group's reference}, corrected where declared."""
    found = [(group.letter, _against(group, m, declared)) for group in groups for m in metrics]
    flat = [(letter, item) for letter, items in found for item in items]
    if declared:
        flat = _corrected(flat)
    return {g.letter: [item for letter, item in flat if letter == g.letter] for g in groups}


def _against(group: Group, metric: str, declared: bool) -> list[Difference]:
    reference, ways = group.reference, better_of(group.arms)
    return [
        Difference(
            metric=metric,
            label=arm.label,
            against=reference.label,
            found=paired(arm.by_seed(metric), reference.by_seed(metric)),
            declared=declared,
            better=ways.get(metric),
            index=arm.index,
            kind=arm.kind,
        )
        for arm in group.arms
        if arm is not reference
    ]


def _corrected(flat: list[tuple[str, Difference]]) -> list[tuple[str, Difference]]:
    """Holm's correction over every comparison that was declared and made."""
    made = [i for i, (_, item) in enumerate(flat) if item.found.p is not None]
    adjusted = dict(zip(made, holm([flat[i][1].found.p for i in made]), strict=True))
    return [(g, replace(item, p_holm=adjusted.get(i))) for i, (g, item) in enumerate(flat)]


def of_axes(group: Group, axes: dict[str, Any], metrics: Sequence[str]) -> list[Difference]:
    """The effect of each value of each axis against its first, for each metric."""
    ways = better_of(group.arms)
    plain = [arm for arm in group.arms if not arm.is_baseline]
    found = [
        Difference(
            metric=metric,
            label=f"{axis}: {value or 'as it is'}",
            against=values[0] or "as it is",
            found=_of_axis(plain, axis, value, values[0], metric),
            declared=False,
            better=ways.get(metric),
        )
        for metric in metrics
        for axis, values in axes.items()
        for value in values[1:]
    ]
    return [item for item in found if item.found.n]


def _of_axis(arms: Sequence[Arm], axis: str, value: str, first: str, metric: str) -> Effect:
    """One difference for each seed: the mean over what both values have in common."""
    rest = lambda arm: tuple((k, v) for k, v in arm.values.items() if k != axis)
    before = {rest(arm): arm.by_seed(metric) for arm in arms if arm.values.get(axis) == first}
    seeds: dict[int, dict[Any, float]] = {}
    for arm in arms:
        if arm.values.get(axis) == value and rest(arm) in before:
            for seed, number in arm.by_seed(metric).items():
                if seed in before[rest(arm)]:
                    seeds.setdefault(seed, {})[rest(arm)] = number - before[rest(arm)][seed]
    # A seed that lacks a combination would bring another mean over the other axes.
    whole = max((len(found) for found in seeds.values()), default=0)
    return effect([float(np.mean([*f.values()])) for f in seeds.values() if len(f) == whole])
