"""Differences: each arm to the baseline at the declared endpoints, and each value of an axis.

Seeds are the independent draws. The effect of an axis is therefore averaged over the other axes
within a seed, and its interval is over seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pellucid.report.grid.arms import Arm, Group, better_of
from pellucid.sweep.statistics import (
    HEADLINE,
    Effect,
    effect,
    equivalence_p,
    holm,
    holm_of_pairs,
    paired,
)

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
    barred: tuple[str, ...] = ()
    """why the arm is not ranked"""
    p_holm: float | None = None
    """corrected over all declared comparisons of the grid, those of equality included"""
    margin: float | None = None
    """declared beforehand: less would not matter"""
    p_within: float | None = None
    """against a difference of the margin or more; corrected where declared, as one with `p_holm`"""

    @property
    def exploratory(self) -> bool:
        """Not declared beforehand, or over too few seeds for a headline."""
        return not self.declared or self.found.n < HEADLINE

    @property
    def differs(self) -> bool:
        """Whether a difference is shown, corrected where it was declared."""
        p = self.found.p if self.p_holm is None else self.p_holm
        return p is not None and p < ALPHA

    @property
    def within(self) -> bool:
        """Whether the difference is shown to be less than the declared margin."""
        return self.p_within is not None and self.p_within < ALPHA

    @property
    def verdict(self) -> str:
        """What may be said: nothing but after the correction, and never at one seed."""
        if self.found.value is None or self.found.p is None:
            return "not known"
        if not self.differs:
            return f"equal within ± {self.margin:g}" if self.within else "no difference shown"
        if self.better is None:
            return "higher" if self.found.value > 0 else "lower"
        gains = (self.found.value > 0) == (self.better == "higher")
        return "better" if gains else "worse"


def to_baseline(
    groups: Sequence[Group],
    metrics: Sequence[str],
    declared: bool,
    margins: Mapping[str, float] | None = None,
) -> dict[str, list]:
    """{group: differences of each arm to its group's reference}, corrected where declared.

    `margins`: by metric, a difference that would not matter.
    """
    found = [
        (group.letter, _against(group, m, declared, (margins or {}).get(m)))
        for group in groups
        for m in metrics
    ]
    flat = [(letter, item) for letter, items in found for item in items]
    if declared:
        flat = _corrected(flat)
    return {g.letter: [item for letter, item in flat if letter == g.letter] for g in groups}


def _against(group: Group, metric: str, declared: bool, margin: float | None) -> list[Difference]:
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
            barred=tuple(arm.barred),
            margin=margin,
            p_within=_p_within(arm.by_seed(metric), reference.by_seed(metric), margin),
        )
        for arm in group.arms
        if arm is not reference
    ]


def _p_within(
    arm: Mapping[int, float], reference: Mapping[int, float], margin: float | None
) -> float | None:
    shared = sorted(set(arm) & set(reference))
    differences = [arm[seed] - reference[seed] for seed in shared]
    return None if margin is None else equivalence_p(differences, margin)


def _corrected(flat: list[tuple[str, Difference]]) -> list[tuple[str, Difference]]:
    """Holm's correction over all declared comparisons, of difference and of equality as one."""
    adjusted = holm_of_pairs([(item.found.p, item.p_within) for _, item in flat])
    return [
        (letter, replace(item, p_holm=apart, p_within=within))
        for (letter, item), (apart, within) in zip(flat, adjusted, strict=True)
    ]


def _holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of those that are there."""
    corrected = iter(holm([value for value in p if value is not None]))
    return [None if value is None else next(corrected) for value in p]


def of_axes(
    group: Group,
    axes: Mapping[str, Any],
    metrics: Sequence[str],
    margins: Mapping[str, float] | None = None,
) -> list[Difference]:
    """The effect of each value of each axis against its first, for each metric.

    That there is a difference is exploratory. That there is none, within the margin that was
    declared for a metric, is corrected over everything that could be called equal here: a family by
    itself, apart from the declared comparisons, and exploratory like the rest.
    """
    ways, margins = better_of(group.arms), margins or {}
    plain = [arm for arm in group.arms if not arm.is_baseline]
    found = [
        _of_value(plain, axis, value, values[0], metric, margins.get(metric), ways.get(metric))
        for metric in metrics
        for axis, values in axes.items()
        for value in values[1:]
    ]
    found = [item for item in found if item.found.n]
    within = _holm([item.p_within for item in found])
    return [replace(item, p_within=p) for item, p in zip(found, within, strict=True)]


def _of_value(
    arms: Sequence[Arm],
    axis: str,
    value: str,
    first: str,
    metric: str,
    margin: float | None,
    better: str | None,
) -> Difference:
    differences = _of_axis(arms, axis, value, first, metric)
    return Difference(
        metric=metric,
        label=f"{axis}: {value or 'as it is'}",
        against=first or "as it is",
        found=effect(differences),
        declared=False,
        better=better,
        margin=margin,
        p_within=None if margin is None else equivalence_p(differences, margin),
    )


def _of_axis(arms: Sequence[Arm], axis: str, value: str, first: str, metric: str) -> list[float]:
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
    return [float(np.mean([*f.values()])) for f in seeds.values() if len(f) == whole]
