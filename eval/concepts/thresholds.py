"""Above which values a unit counts as firing: fractions of its largest value, or given densities.

All from half A. A unit that is silent there, in a sign, has infinite thresholds: it never fires.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.concepts.counts import blocks, signs_of
from pellucid.eval.harvest import CHUNK, Harvest
from pellucid.eval.score import NoValue

FRACTIONS = tuple(i / 10 for i in range(10))
"""Of a unit's largest value: 0, 0.1 … 0.9 (arXiv 2408.00113 §3)."""
DENSITIES = (0.1, 0.03, 0.01, 0.003)
"""Shares of tokens on which units are made to fire; falling, so that thresholds ascend."""
SAMPLED = 8192
"""Tokens of half A, evenly spaced, that the quantiles of a dense site are taken of."""
TOLERANCE = 2.0
"""A unit takes part at a density that its values let it come within this factor of."""


def tops(harvest: Harvest, a: Integer[np.ndarray, " place"]) -> Float[np.ndarray, "sign unit"]:
    """The largest value of each unit on these tokens in each sign, 0 where it has none.

    Raises NoValue where a unit is not finite.
    """
    signs, n = signs_of(harvest), harvest.about.n_units
    top = np.zeros((len(signs), n), dtype=np.float32)
    here = np.zeros(harvest.n_tokens, dtype=bool)
    here[a] = True
    for unit, values in _values(harvest, here):
        _check(values, unit)
        # Units ascend: the places of each stand together.
        first = np.flatnonzero(np.diff(unit, prepend=-1))
        of, most = unit[first], np.maximum.reduceat
        for s, sign in enumerate(signs):
            top[s, of] = np.maximum(top[s, of], most(sign * values, first))
    return top


def _values(harvest: Harvest, here: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Units and a value of each: all active places, or the extremes of each chunk."""
    if harvest.sparse:
        for places in blocks(harvest):
            at = here[places.token]
            yield places.unit[at], places.value[at]
        return
    unit = np.arange(harvest.about.n_units)
    for first, rows in harvest.chunks(2048):
        chosen = rows[here[first : first + len(rows)]]
        if len(chosen):
            yield unit, chosen.max(0)
            yield unit, chosen.min(0)


def _check(values: np.ndarray, unit: np.ndarray) -> None:
    broken = ~np.isfinite(values)
    if broken.any():
        raise NoValue(f"unit {unit[broken][0]} is {values[broken][0]}, which cannot be compared")


def at_fractions(top: Float[np.ndarray, "sign unit"]) -> Float[np.ndarray, "sign unit threshold"]:
    """Thresholds at fractions of the largest value."""
    found = top[..., None] * np.array(FRACTIONS, dtype=np.float32)
    return np.where(top[..., None] > 0, found, np.inf)


class AtDensities(NamedTuple):
    """Thresholds at each of DENSITIES, the largest first, and whether a unit can fire that often."""

    thresholds: Float[np.ndarray, "sign unit density"]
    able: Bool[np.ndarray, "sign unit density"]


def at_densities(harvest: Harvest, a: Integer[np.ndarray, " place"]) -> AtDensities:
    """Thresholds that units pass on these shares of tokens, as far as they are able to.

    A unit is unable where it is active too seldom, or constant on too many tokens.
    """
    signs, n = signs_of(harvest), harvest.about.n_units
    shape = (len(signs), n, len(DENSITIES))
    found = AtDensities(np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool))
    for unit, values, size in _of_each(harvest, a):
        wanted = np.maximum(1, np.round(size * np.array(DENSITIES)).astype(int))
        for s, sign in enumerate(signs):
            strength = np.sort(sign * values[sign * values > 0])
            found.thresholds[s, unit], found.able[s, unit] = _bars(strength, wanted)
    return found


def _of_each(harvest: Harvest, a: np.ndarray) -> Iterator[tuple[int, np.ndarray, int]]:
    """Each unit with its values on tokens of half A, and how many tokens were looked at."""
    if harvest.sparse:
        here = np.zeros(harvest.n_tokens, dtype=bool)
        here[a] = True
        for unit in range(harvest.about.n_units):
            token, value = harvest.active(unit)
            yield unit, value[here[token]], len(a)
        return
    sampled = a[:: -(-len(a) // SAMPLED)]
    at = np.searchsorted(sampled, np.arange(0, harvest.n_tokens + CHUNK, CHUNK))
    rows = [
        harvest.rows(i * CHUNK, (i + 1) * CHUNK)[sampled[low:high] - i * CHUNK].astype(np.float16)
        for i, (low, high) in enumerate(pairwise(at))
        if high > low
    ]
    columns = np.ascontiguousarray(np.concatenate(rows).T)
    for unit, values in enumerate(columns):
        yield unit, values.astype(np.float32), len(sampled)


def _bars(strength: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds that so many of the ascending values pass; where values are equal, more or less."""
    n = len(strength)
    bar = np.where(wanted < n, strength[np.maximum(n - 1 - wanted, 0)] if n else 0, 0)
    bar = bar.astype(np.float32)
    passing = n - np.searchsorted(strength, bar, side="right")
    # Where too many are equal for a threshold between them, they may all pass.
    equal = n - np.searchsorted(strength, bar, side="left")
    lower = (passing * TOLERANCE < wanted) & (wanted < n) & (equal <= wanted * TOLERANCE)
    bar = np.where(lower, np.nextafter(bar, np.float32(0)), bar)
    return bar, lower | (passing * TOLERANCE >= wanted)
