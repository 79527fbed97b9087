"""The metrics of units against labels: measures of a reader, by site, and the intervals they have."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from pellucid.eval import bootstrap
from pellucid.eval.bootstrap import Interval
from pellucid.eval.concepts.absorption import rate
from pellucid.eval.concepts.by_unit import by_unit
from pellucid.eval.concepts.compared import compared
from pellucid.eval.concepts.densities import coverage_at_densities
from pellucid.eval.concepts.floors import Floor
from pellucid.eval.concepts.hierarchy import behaviour
from pellucid.eval.concepts.k_sparse import SIZES, k_star, probed
from pellucid.eval.concepts.open_tokens import on_open_tokens
from pellucid.eval.concepts.probe import Ceiling
from pellucid.eval.concepts.resampled import f1s, mean_f1
from pellucid.eval.concepts.single import site_fms
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NO_INTERVAL, NO_VALUE, NoValue

Found = dict[str | None, Interval]
ROOM = 0.05
"""F1 between floor and ceiling, or floor and 1, that a label needs to tell anything."""
OVER_LABELS = "the interval is over labels, not documents"
OVER_UNITS = "the interval is over units, not documents"


@runtime_checkable
class System(Protocol):
    """A reader, or whatever else has harvests of units."""

    @property
    def harvest(self) -> Mapping[str, Harvest]:
        """What every unit did on the stream, by site."""
        ...


def by_site(
    system: System, measure: Callable[[Harvest], Interval], only: Mapping | None = None
) -> Found:
    """A measure of every site's harvest; a site without a value says why."""
    found: Found = {}
    for name, harvest in system.harvest.items():
        if only is None or name in only:
            try:
                found[name] = measure(harvest)
            except NoValue as reason:
                found[name] = Interval(None, None, None, 0, (NO_VALUE + str(reason),))
    return found


def coverage(system: System, truth: Truth, *, seed: int) -> Found:
    """Mean over labels of the best unit's F1 (arXiv 2408.00113, its choice made on other text)."""
    compared.ahead(system.harvest.values(), truth)
    return by_site(system, lambda kept: mean_f1(compared(kept, truth).picked, seed=seed))


def reconstruction(system: System, truth: Truth, *, seed: int) -> Found:
    """Mean F1 of predicting a label wherever a unit fires that is precise for it on half A."""
    compared.ahead(system.harvest.values(), truth)
    return by_site(system, lambda kept: mean_f1(compared(kept, truth).reconstructed, seed=seed))


def gain(system: System, truth: Truth, token_only: Floor, *, seed: int) -> Found:
    """Mean over labels of (F1 - F1 of the current token) / (1 - F1 of the current token)."""
    compared.ahead(system.harvest.values(), truth)
    floor = f1s(truth.table(token_only.says))

    def measure(kept: Harvest) -> Interval:
        return over_labels(gained(f1s(compared(kept, truth).picked), floor), seed=seed)

    return by_site(system, measure)


def gained(
    ours: Float[np.ndarray, " label"], floor: Float[np.ndarray, " label"]
) -> Float[np.ndarray, " kept"]:
    """(F1 - floor) / (1 - floor), of the labels with room between floor and 1."""
    room = 1 - floor >= ROOM
    return (ours - floor)[room] / (1 - floor)[room]


def open_coverage(
    system: System, truth: Truth, is_open: Bool[np.ndarray, "token label"], *, seed: int
) -> Found:
    """Coverage on tokens whose own token leaves the label open."""
    compared.ahead(system.harvest.values(), truth)
    return by_site(system, lambda kept: mean_f1(on_open_tokens(kept, truth, is_open), seed=seed))


def density_coverage(system: System, truth: Truth, density: float, *, seed: int) -> Found:
    """Coverage by units that are made to fire on this share of tokens."""
    coverage_at_densities.ahead(system.harvest.values(), truth)

    def measure(kept: Harvest) -> Interval:
        found = coverage_at_densities(kept, truth)[density]
        if isinstance(found, str):
            raise NoValue(found)
        able = f"{found.able} of {kept.about.n_units} units can fire so often"
        chance = f"a unit that fires so often and knows nothing has {found.by_chance:.3f}"
        interval = mean_f1(found.table, seed=seed)
        return interval._replace(flags=(*interval.flags, able, chance))

    return by_site(system, measure)


def drawn_coverage(system: System, truth: Truth, n: int, *, seed: int) -> Found:
    """Expected coverage of n units drawn at random from the site, dead ones among them."""
    by_unit.ahead(system.harvest.values(), truth)

    def measure(kept: Harvest) -> Interval:
        found = by_unit(kept, truth).curve
        if n not in found:
            raise NoValue(f"the layer has {kept.about.n_units} units, fewer than {n}")
        return over_labels(found[n], seed=seed)

    return by_site(system, measure)


def unit_f1(system: System, truth: Truth, *, living: bool, seed: int) -> Found:
    """Mean over units of the F1 with the label that fits each best: all units, or the living."""
    by_unit.ahead(system.harvest.values(), truth)

    def measure(kept: Harvest) -> Interval:
        found = by_unit(kept, truth)
        scores = found.own[found.living] if living else found.own
        interval = bootstrap.mean(scores, seed=seed, what="units")
        number = f"{found.living.sum()} of {len(found.own)} units are on at least once in half A"
        return interval._replace(flags=(*interval.flags, OVER_UNITS, number))

    return by_site(system, measure)


def k_sparse(system: System, truth: Truth, k: int, *, precision: bool, seed: int) -> Found:
    """Mean over labels of the AUROC, or the AUPRC, of a probe of k units."""
    probed.ahead(system.harvest.values(), truth)

    def measure(kept: Harvest) -> Interval:
        found = probed(kept, truth)
        scores = (found.auprc if precision else found.auroc)[SIZES.index(k)]
        return over_labels(scores, seed=seed)

    return by_site(system, measure)


def median_k_star(
    system: System, truth: Truth, ceilings: Mapping[str, Ceiling], *, seed: int
) -> Found:
    """Median over labels of the fewest units that rank 95 % as well as all channels at that depth."""
    probed.ahead(system.harvest.values(), truth)

    def measure_at(name: str) -> Callable[[Harvest], Interval]:
        def measure(kept: Harvest) -> Interval:
            found = k_star(probed(kept, truth).auroc, ceilings[name].auroc)
            found = found[~np.isnan(found)]
            reached = (
                f"{np.isfinite(found).sum()} of {len(found)} labels reach it by {SIZES[-1]} units"
            )
            median = float(np.sort(found)[(len(found) - 1) // 2]) if len(found) else np.inf
            if not np.isfinite(median):
                raise NoValue(f"{reached}, fewer than half")
            why = NO_INTERVAL + "a median over labels of whole numbers"
            return Interval(median, None, None, len(found), (why, reached))

        return measure

    found: Found = {}
    for name in system.harvest:
        if name in ceilings:
            found |= by_site(system, measure_at(name), only={name: None})
    return found


def absorption(system: System, truth: Truth, *, seed: int) -> Found:
    """Mean over pairs of labels, one implying the other, of the rate of absorption."""
    behaviour.ahead(system.harvest.values(), truth)

    def measure(kept: Harvest) -> Interval:
        pairs = behaviour(kept, truth).pairs
        if not pairs:
            raise NoValue("no label that implies another has a unit of its own")
        found = bootstrap.mean(np.array([rate(p) for p in pairs.values()]), seed=seed, what="pairs")
        return found._replace(flags=(*found.flags, "the interval is over pairs of labels"))

    return by_site(system, measure)


def splitting(system: System, truth: Truth, *, seed: int) -> Found:
    """Mean over labels of the number of units that each add more than 0.03 to its F1."""
    behaviour.ahead(system.harvest.values(), truth)
    return by_site(
        system,
        lambda kept: over_labels(
            np.array([float(n) for n in behaviour(kept, truth).main.values()]), seed=seed
        ),
    )


def fms(system: System, truth: Truth, without: int, *, seed: int) -> Found:
    """Mean over labels of FMS@p."""
    site_fms.ahead(system.harvest.values(), truth)
    return by_site(system, lambda kept: over_labels(site_fms(kept, truth)[without], seed=seed))


def over_labels(values: Float[np.ndarray, " label"], *, seed: int) -> Interval:
    """The mean of the labels that have a value, its interval by drawing labels again."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        raise NoValue("no label has a value")
    found = bootstrap.mean(values, seed=seed, what="labels")
    return found._replace(flags=(*found.flags, OVER_LABELS))
