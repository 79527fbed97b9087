"""Learning the rules of one site's units, from half A alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.harvest import Harvest
from pellucid.eval.rules.drawn import draw
from pellucid.eval.rules.grow import grow
from pellucid.eval.rules.rule import Leaf, Rule, Scale
from pellucid.eval.rules.spot import Spot
from pellucid.eval.rules.text import Text

BUDGETS = (32, 64, 128)
"""Bits of the rules that are reported."""
AT_ONCE, NUMBERS = 64, 2**25
"""Units that one process takes before it takes others, and activations of them held at once."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How thoroughly rules are looked for."""

    budgets: tuple[int, ...] = BUDGETS
    places: int = 6000
    """places of half A that a unit's rule is learned from"""
    seed: int = 0


@dataclass(frozen=True)
class Learned:
    """A unit's rules, one for each budget, and how far each explains the part of A that checks."""

    unit: int
    rules: dict[int, Rule]
    errors: dict[int, float]
    """squared error left on the checking part, as a share; 1 for the mean"""
    mean: float
    density: float
    """share of half A on which the unit is not 0"""


def portions(units: Integer[np.ndarray, " unit"], n_tokens: int) -> list[np.ndarray]:
    """Units in their order, a few at a time: fewer where they speak over a longer text."""
    size = max(1, min(AT_ONCE, NUMBERS // max(n_tokens, 1)))
    return [units[first : first + size] for first in range(0, len(units), size)]


def learn(
    harvest: Harvest,
    text: Text,
    is_a: Bool[np.ndarray, " token"],
    document: Integer[np.ndarray, " token"],
    units: Sequence[int] | Integer[np.ndarray, " unit"],
    settings: Settings,
) -> list[Learned]:
    """Rules of some units, in their order; what these do everywhere is read at once.

    `document` keeps the two parts of half A apart.
    """
    places, some = np.flatnonzero(is_a), [int(unit) for unit in units]
    checks = _checks(document[places], settings.seed)
    columns = harvest.columns(some)[places].T
    return [
        learn_unit(unit, values, text, places, checks, settings)
        for unit, values in zip(some, columns, strict=True)
    ]


def _checks(document: np.ndarray, seed: int) -> Bool[np.ndarray, " place"]:
    """About two fifths of the documents; of every few tokens, where one document is all there is."""
    chosen = np.random.default_rng([seed, 1]).permutation(np.unique(document))
    if len(chosen) < 4:
        return np.arange(len(document)) // 32 % 5 < 2
    return np.isin(document, chosen[: max(1, len(chosen) * 2 // 5)])


def learn_unit(
    unit: int,
    values: Float[np.ndarray, " place"],
    text: Text,
    places: Integer[np.ndarray, " place"],
    checks: Bool[np.ndarray, " place"],
    settings: Settings,
) -> Learned:
    """One unit's rule at each budget: a larger budget never keeps a worse one."""
    seed = [settings.seed, unit]
    drawn, scale = draw(text, places, values, checks, most=settings.places, seed=seed)
    about = (scale.mean, float(np.count_nonzero(values) / max(len(values), 1)))
    if scale.spread == 0 or not np.isfinite(scale.spread):
        mean = Rule(Leaf(scale.rest), Scale(scale.mean, 0.0, scale.rest))
        same = dict.fromkeys(settings.budgets, mean)
        return Learned(unit, same, dict.fromkeys(settings.budgets, 1.0), *about)
    root = Spot(drawn, np.arange(len(drawn.places)))
    total, rules, errors = root.errors().sum(), {}, {}
    best = (Rule(root.node(scale), scale), 1.0)
    for budget in sorted(settings.budgets):
        root.literal, root.slope = None, None
        rule = grow(root, scale, budget)
        error = root.errors().sum() / max(total, 1e-300)
        best = (rule, error) if error < best[1] else best
        rules[budget], errors[budget] = best
    return Learned(unit, rules, errors, *about)
