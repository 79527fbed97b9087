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


def by_site(units: Iterable[Unit]) -> dict[str, list[int]]:
    """Numbers of units by site, ascending."""
    found: dict[str, list[int]] = {}
    for unit in sorted(set(units)):
        found.setdefault(unit.site, []).append(unit.number)
    return found


def ranked(
    harvest: Mapping[str, Harvest], truth: Truth, *, most: int
) -> list[list[tuple[Unit, float]]]:
    """For each label the `most` best units of all sites with their F1 on half A, best first.

    A unit's threshold and sign are those best for the label on half A (arXiv 2408.00113 §3). Equal
    units keep the order of sites and numbers. Raises NoValue where there are no units.
    """
    found: list[list[tuple[Unit, float]]] = [[] for _ in truth.names]
    f1_on_a.ahead(harvest.values(), truth)
    for site, kept in harvest.items():
        scores = f1_on_a(kept, truth)
        for label, column in enumerate(scores.T):
            best = np.argsort(-column, kind="stable")[:most]
            found[label] += [(Unit(site, int(u)), float(column[u])) for u in best if column[u] > 0]
    if not any(found):
        raise NoValue("no unit fires where labels are known")
    return [sorted(each, key=lambda pair: -pair[1])[:most] for each in found]


@remembered
def f1_on_a(harvest: Harvest, truth: Truth) -> Float[np.ndarray, "unit label"]:
    """The best F1 of every unit of a site with every label, over signs and thresholds."""
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
        pieces.append(f1_of(counts, held[:, labels])[0].max(axis=(0, 1)))
    return np.concatenate(pieces, axis=1)


def better_than_always(each: list[tuple[Unit, float]], share: float, most: int) -> tuple[Unit, ...]:
    """The best unit, and those after it, up to `most`, that beat one that always fires.

    On a label that holds on a `share` of tokens an always-on unit has F1 2·share / (1 + share).
    """
    floor = 2 * share / (1 + share)
    return tuple(unit for i, (unit, f1) in enumerate(each[:most]) if i == 0 or f1 > floor)


def densities(
    harvest: Mapping[str, Harvest], tokens: Integer[np.ndarray, " place"]
) -> dict[str, Float[np.ndarray, " unit"]]:
    """Share of these tokens, ascending, on which each unit is not 0, by site."""
    found = {}
    for site, kept in harvest.items():
        active, here = np.zeros(kept.about.n_units), np.zeros(kept.n_tokens, dtype=bool)
        here[tokens] = True
        if kept.sparse:
            for places in blocks(kept):
                active += np.bincount(places.unit[here[places.token]], minlength=len(active))
        else:
            for first, rows in kept.chunks(1024):
                active += (rows[here[first : first + len(rows)]] != 0).sum(0)
        found[site] = active / max(len(tokens), 1)
    return found


def of_equal_density(
    units: Iterable[Unit],
    density: Mapping[str, Float[np.ndarray, " unit"]],
    *,
    seed: int,
    avoid: Iterable[Unit] = (),
) -> tuple[Unit, ...]:
    """For each unit a living one of its site, drawn from the 16 whose densities are nearest.

    A unit with no other living one at its site has none.
    """
    rng, units = np.random.default_rng(seed), tuple(units)
    taken = {*units, *avoid}
    found = []
    for unit in units:
        here = density[unit.site]
        free = [u for u in np.flatnonzero(here > 0) if Unit(unit.site, int(u)) not in taken]
        if not free:
            continue
        order = np.argsort(np.abs(here[free] - here[unit.number]), kind="stable")[:16]
        found.append(Unit(unit.site, int(free[rng.choice(order)])))
        taken.add(found[-1])
    return tuple(found)
