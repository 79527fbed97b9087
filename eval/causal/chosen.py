"""Which units stand for a label: those whose firing agrees best with it on half A, over all sites."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from pellucid.eval.concepts.counts import blocks, count
from pellucid.eval.concepts.picks import f1_of
from pellucid.eval.concepts.remembered import remembered
from pellucid.eval.concepts.thresholds import at_fractions, tops
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.controls import System
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue

SAMPLE = 40_000
"""Tokens of half A, evenly spaced, that units are chosen on."""
BLOCK = 2**25
"""Counts held at once."""


def of_next(truth: Truth) -> Truth:
    """The same labels, each said of the token that is predicted: does it realise the label?

    A token realises a label that holds once it has been read. The last token of a document, and
    one before a token whose labels are not known, have no value.
    """
    known = np.append(truth.known[1:], False)
    known[:-1] &= truth.document[1:] == truth.document[:-1]
    holds = np.concatenate([truth.holds[1:], np.zeros_like(truth.holds[:1])])
    return Truth(truth.names, holds, known, truth.is_a, truth.document).scorable()


class Unit(NamedTuple):
    """A unit by its site and number."""

    site: str
    number: int


class Chosen(NamedTuple):
    """A unit that stands for a label, and how it tells of it on half A."""

    unit: Unit
    sign: int
    """1 where its values above 0 announce the label, -1 where those below do"""
    f1: float


def by_site(units: Iterable[Unit]) -> dict[str, list[int]]:
    """Numbers of units by site, ascending."""
    found: dict[str, list[int]] = {}
    for unit in sorted(set(units)):
        found.setdefault(unit.site, []).append(unit.number)
    return found


def ranked(harvest: Mapping[str, Harvest], truth: Truth, *, most: int) -> list[list[Chosen]]:
    """For each label the `most` best units of all sites, best first.

    A unit's threshold and sign are those best for the label on half A (arXiv 2408.00113 §3); of
    equal signs it is the positive one. Equal units keep the order of sites and numbers. Raises
    NoValue where there are no units.
    """
    found: list[list[Chosen]] = [[] for _ in truth.names]
    f1_on_a.ahead(harvest.values(), truth)
    for site, kept in harvest.items():
        by_sign = f1_on_a(kept, truth)
        signs, scores = 1 - 2 * by_sign.argmax(0), by_sign.max(0)
        for label, column in enumerate(scores.T):
            best = [int(u) for u in np.argsort(-column, kind="stable")[:most] if column[u] > 0]
            found[label] += [
                Chosen(Unit(site, u), int(signs[u, label]), float(column[u])) for u in best
            ]
    if not any(found):
        raise NoValue("no unit fires where labels are known")
    return [sorted(each, key=lambda one: -one.f1)[:most] for each in found]


@remembered
def f1_on_a(harvest: Harvest, truth: Truth) -> Float[np.ndarray, "sign unit label"]:
    """The best F1 of every unit of a site in each sign with every label, over thresholds."""
    a = truth.a[:: max(1, -(-len(truth.a) // SAMPLE))]
    half = np.full(harvest.n_tokens, -1, dtype=np.int8)
    half[a] = 0
    held = truth.holds[a].sum(0)[None]
    thresholds = at_fractions(tops(harvest, a))
    signs, _, levels = thresholds.shape
    at_once = max(1, BLOCK // (harvest.about.n_units * signs * levels) - 1)
    pieces = []
    for first in range(0, len(truth.names), at_once):
        labels = slice(first, first + at_once)
        columns = np.concatenate([truth.columns[:, :1], truth.holds[:, labels]], axis=1)
        counts = count(harvest, thresholds, columns, half, n_halves=1)
        pieces.append(f1_of(counts, held[:, labels])[0].max(axis=1))
    return np.concatenate(pieces, axis=2)


def better_than_always(each: list[Chosen], share: float, most: int) -> tuple[Unit, ...]:
    """The best unit, and those after it, up to `most`, that beat one that always fires.

    On a label that holds on a `share` of tokens an always-on unit has F1 2·share / (1 + share).
    """
    floor = 2 * share / (1 + share)
    return tuple(one.unit for i, one in enumerate(each[:most]) if i == 0 or one.f1 > floor)


def densities(
    system: System, tokens: Integer[np.ndarray, " place"]
) -> dict[str, Float[np.ndarray, "sign unit"]]:
    """Share of these tokens, ascending, on which each unit is active above 0, and below it, by site.

    A unit is active above its `Moments.threshold`: dense units that have a sign are never silent.
    """
    here, found = np.zeros(len(system.stream.tokens), dtype=bool), {}
    here[tokens] = True
    for site, kept in system.harvest.items():
        bar = system.end_to_end.moments[site].threshold(signed=kept.about.signed)
        active = np.zeros((2, kept.n_units))
        if kept.sparse:
            for places in blocks(kept):
                some = here[places.token] & (np.abs(places.value) > bar[places.unit])
                cell = np.where(places.value > 0, 0, kept.n_units) + places.unit
                active += np.bincount(cell[some], minlength=active.size).reshape(active.shape)
        else:
            for first, rows in kept.chunks(1024):
                some = rows[here[first : first + len(rows)]]
                active += (some > bar).sum(0), (some < -bar).sum(0)
        found[site] = active / max(len(tokens), 1)
    return found


def of_equal_density(
    units: Iterable[Unit],
    density: Mapping[str, Float[np.ndarray, "sign unit"]],
    *,
    seed: int,
    label: int,
    avoid: Iterable[Unit] = (),
) -> tuple[Unit, ...]:
    """For each unit a living one of its site, drawn from the 16 whose densities are nearest.

    Of equally near ones, those are drawn from that the seed decides, and the number of the label
    that the units stand for: labels with one unit in common have draws of their own. A unit with no
    other living one at its site has none.
    """
    rng, units = np.random.default_rng([seed, label]), tuple(units)
    taken = {*units, *avoid}
    found = []
    for unit in units:
        here = density[unit.site].sum(0)
        free = [u for u in np.flatnonzero(here > 0) if Unit(unit.site, int(u)) not in taken]
        if not free:
            continue
        free = rng.permutation(free)
        order = np.argsort(np.abs(here[free] - here[unit.number]), kind="stable")[:16]
        found.append(Unit(unit.site, int(free[rng.choice(order)])))
        taken.add(found[-1])
    return tuple(found)
