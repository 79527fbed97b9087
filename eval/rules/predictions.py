"""How well one unit's rule predicts it on half B: whether it fires, and how strongly."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.rules.rule import Rule
from pellucid.eval.rules.text import Text


class Fit(NamedTuple):
    """One rule's scores on half B."""

    f1: float
    """of firing; 0 where the unit or the rule never fires"""
    gain: float
    """(F1 - floor) / (1 - floor), where the floor is the F1 of firing always; 0 for a constant"""
    r2: float
    """of the activation over its whole range, against the mean of half A"""
    always: float = 0.0
    """F1 of firing always"""


def f1(fires: Bool[np.ndarray, " place"], predicted: Bool[np.ndarray, " place"]) -> float:
    """2 · hits / (fired + predicted); 0 where neither ever happens."""
    both = fires.sum() + predicted.sum()
    return float(2 * (fires & predicted).sum() / both) if both else 0.0


def gain(score: float, fires: Bool[np.ndarray, " place"]) -> float:
    """An F1 between that of firing always, which is 0 here, and 1."""
    share = fires.mean()
    floor = 2 * share / (1 + share)
    return float((score - floor) / (1 - floor)) if floor < 1 else 0.0


def r2(
    values: Float[np.ndarray, " place"], predicted: Float[np.ndarray, " place"], mean: float
) -> float:
    """Share of the squared distance from `mean` explained; 0 for a unit that never leaves it."""
    total = float(((values - mean) ** 2).sum())
    return 1 - float(((values - predicted) ** 2).sum()) / total if total > 0 else 0.0


def cut(fires: Bool[np.ndarray, " place"], predicted: Float[np.ndarray, " place"]) -> float:
    """The strength from which on a prediction is best called firing: a choice, so made on half A."""
    strength = np.abs(predicted)
    levels, where = np.unique(strength, return_inverse=True)
    hits = np.cumsum(np.bincount(where, fires, len(levels))[::-1])[::-1]
    called = np.cumsum(np.bincount(where, minlength=len(levels))[::-1])[::-1]
    return float(levels[(2 * hits / (fires.sum() + called)).argmax()])


def fit(
    rule: Rule,
    text: Text,
    values: Float[np.ndarray, " token"],
    is_a: Bool[np.ndarray, " token"],
    threshold: float,
) -> Fit:
    """Score a rule on half B; the unit fires where |activation| is above the threshold."""
    a, b = np.flatnonzero(is_a), np.flatnonzero(~is_a)
    fires, predicted = np.abs(values) > threshold, rule.predict(text, b)
    if not fires[b].any() and not fires[a].any():
        return Fit(0.0, 0.0, 0.0)
    least = cut(fires[a], rule.predict(text, a))
    score, share = f1(fires[b], np.abs(predicted) >= least), float(fires[b].mean())
    explained = r2(values[b], predicted, rule.scale.mean)
    return Fit(score, gain(score, fires[b]), explained, 2 * share / (1 + share))


def null_fits(
    rule: Rule,
    text: Text,
    values: Float[np.ndarray, " token"],
    is_a: Bool[np.ndarray, " token"],
    threshold: float,
    moved: Sequence[Integer[np.ndarray, " place"]],
) -> list[Fit]:
    """The same of a rule whose unit's activations on half B go to other files, in several ways.

    Each of `moved` says where what stands at a place of half B goes. Rule and cut remain those of
    half A. Only places where the unit is not 0 are looked at: the other sums stay as they are.
    """
    a, b = np.flatnonzero(is_a), np.flatnonzero(~is_a)
    fires, predicted = np.abs(values) > threshold, rule.predict(text, b)
    if not fires[b].any() and not fires[a].any():
        return [Fit(0.0, 0.0, 0.0)] * len(moved)
    said = np.abs(predicted) >= cut(fires[a], rule.predict(text, a))
    fired, some = np.flatnonzero(fires[b]), np.flatnonzero(values[b])
    there, both = values[b].astype(np.float64)[some], len(fired) + int(said.sum())
    squares = float(there @ there + predicted @ predicted)
    total = float(((values[b] - rule.scale.mean) ** 2).sum())
    found = []
    for to in moved:
        score = float(2 * said[to[fired]].sum() / both) if both else 0.0
        left = squares - 2 * float(there @ predicted[to[some]])
        explained = 1 - left / total if total > 0 else 0.0
        found.append(Fit(score, gain(score, fires[b]), explained))
    return found


def threshold(values: Float[np.ndarray, " place"], *, sparse: bool, signed: bool) -> float:
    """Above which |activation| a unit fires: 0 where silence is exact, else a tenth of its largest."""
    if sparse or not signed:
        return 0.0
    return float(np.abs(values).max(initial=0)) / 10


def matched(
    scores: Float[np.ndarray, " unit"],
    density: Float[np.ndarray, " unit"],
    reference: Float[np.ndarray, " other"],
) -> float | None:
    """Mean score with units weighted so that their densities are distributed as the reference's.

    Half-decades of density; those that have no unit here are left out. None where all are.
    """
    edges = np.array([1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3])
    here, there = np.searchsorted(edges, density), np.searchsorted(edges, reference)
    n = len(edges) + 1
    count = np.bincount(here, minlength=n)
    wanted = np.where(count > 0, np.bincount(there, minlength=n), 0)
    if not wanted.sum():
        return None
    means = np.bincount(here, scores, n) / np.maximum(count, 1)
    return float(wanted @ means / wanted.sum())


def chosen(n_units: int, most: int | None, seed: int) -> Integer[np.ndarray, " unit"]:
    """A seeded draw of units, ascending: all where they are few, or as many as there are is asked."""
    if most is None or n_units <= most:
        return np.arange(n_units)
    return np.sort(np.random.default_rng([seed, n_units]).permutation(n_units)[:most])
