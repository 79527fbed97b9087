"""Means over units of how well their rules do, and what stands beside them."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from pellucid.eval.bootstrap import Interval, mean, ratio
from pellucid.eval.controls import CEILING, Found
from pellucid.eval.rules.predictions import matched
from pellucid.eval.rules.units import Sampled
from pellucid.eval.score import NO_INTERVAL, NO_VALUE

MIDDLE = 64
"""Bits at which a single number is given."""
DRAWS = 20
"""Permutations of the activations of half B."""
NO_UNITS = NO_VALUE + "no sampled unit of this layer was ever active"
OF_TOKENS = "rules ask for tokens: what tokens tell of a unit is a rule's to say"
ALL_THERE_IS = "1: a rule may say all there is of a unit; rule:gain is the share of the way to it"
NOTHING = "0: that of a rule which says the mean of half A"


class Asked(NamedTuple):
    """One of the numbers that are given of rules."""

    what: Literal["r2", "f1", "gain"]
    budget: int
    """bits"""
    over: Literal["mass", "all", "living", "matched"]
    """which units, and how they are weighted"""

    @property
    def name(self) -> str:
        """That of the metric."""
        ending = "" if self.over == "mass" else f"_{self.over}"
        return f"rule:{self.what}_{self.budget}bits{ending}"


def asked_for() -> list[Asked]:
    """At every budget by mass, in the middle in every way.

    The one that a page shows first is the first.
    """
    first = Asked("r2", MIDDLE, "mass")
    by_mass = [Asked(what, bits, "mass") for what in ("r2", "f1", "gain") for bits in (32, 64, 128)]
    others = ("all", "living", "matched")
    rest = by_mass + [Asked(what, MIDDLE, over) for what in ("r2", "f1") for over in others]
    return [first, *(asked for asked in rest if asked != first)]


def average_of(
    table: Sampled, *, asked: Asked, reference: Float[np.ndarray, " other"] | None, seed: int
) -> Interval:
    """The mean over units; `reference` are the densities that `matched` weights them to."""
    values, living = table.values(asked.what, asked.budget), table.living
    if (found := _whole(table, values, asked.over, reference)) is None:
        alive = int(living.sum()) if asked.over == "matched" else 0
        dense = NO_VALUE + "no unit is as dense as those of the run"
        return Interval(None, None, None, alive, (dense if alive else NO_UNITS,))
    if asked.over == "all":
        return mean(values, seed=seed, what="units")
    if asked.over == "living":
        return mean(values[living], seed=seed, what="units")
    if asked.over == "mass":
        return ratio(values * table.mass, table.mass, seed=seed, what="units")
    flag = NO_INTERVAL + "units are weighted to the run's densities"
    return Interval(found, None, None, int(living.sum()), (flag,))


def beside(
    tables: Mapping[str, Sampled], asked: Asked, reference: Mapping[str, np.ndarray]
) -> dict[str, Found]:
    """The null, the floor of firing always, and why there are no other floors and no ceiling.

    The null is the 95th percentile over permutations of the files of half B: what a unit does in
    one is held against what its rule, found on half A, says of another.
    """
    null, always = {}, {}
    for site, table in tables.items():
        whole = lambda one, what, site=site: _whole(
            one, one.values(what, asked.budget), asked.over, reference.get(site)
        )
        drawn = [whole(one, asked.what) for one in table.permuted]
        found = [value for value in drawn if value is not None]
        null[site] = _number(float(np.quantile(found, 0.95)) if found else None)
        always[site] = _number(whole(table, "always")) if asked.what == "f1" else _reason(NOTHING)
    none = lambda why: dict.fromkeys(tables, _reason(why))
    return {
        "permutation_null": null,
        "floor_always_on": always,
        "floor_token_only": none(OF_TOKENS),
        "floor_five_gram": none(OF_TOKENS),
        f"{CEILING}_probe": none(ALL_THERE_IS),
    }


def _whole(
    table: Sampled, values: np.ndarray, over: str, reference: np.ndarray | None
) -> float | None:
    """One number of all units; None where no unit takes part."""
    living = table.living
    if over == "all":
        return float(values.mean()) if len(values) else None
    if not living.any() or (over == "mass" and not table.mass.sum()):
        return None
    if over == "living":
        return float(values[living].mean())
    if over == "mass":
        return float(values @ table.mass / table.mass.sum())
    return matched(values[living], table.density[living], reference)


def _number(value: float | None) -> Interval:
    why = NO_UNITS if value is None else NO_INTERVAL + "a reference"
    return Interval(value, None, None, 0, (why,))


def _reason(why: str) -> Interval:
    return Interval(None, None, None, 0, (why,))
