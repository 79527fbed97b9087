"""How many units speak, how many ever do, and how far from Gaussian they are.

"Active" is defined by `Moments.threshold`; "dead" is silent over all of the text that was read.
These numbers describe a layer and do not rank it: a random layer of equal sparsity has them too.
"""

from collections.abc import Callable

import numpy as np

from pellucid.eval import still
from pellucid.eval.activity import Activity
from pellucid.eval.bootstrap import Interval, mean, ratio
from pellucid.eval.controls import CONTROLS, System, under_controls
from pellucid.eval.moments import Moments
from pellucid.eval.score import NO_INTERVAL, NO_VALUE, Score
from pellucid.eval.scored import on_pairs
from pellucid.eval.workbench import Workbench

NO_UNITS, CONSTANT = NO_VALUE + still.SILENT, NO_VALUE + still.CONSTANT
PAIRS = (
    "each unit has one activation for every pair of tokens, and none for a token: it is not scored"
)
THRESHOLD = "active: above 10 % of the unit's largest |activation|; it is never exactly silent"


def mean_active_units(bench: Workbench) -> list[Score]:
    """Mean number of units active on a token (L0); a reason for sites that act on pairs of them."""

    def measure(system: System, site: str) -> Interval:
        activity = system.sightings.activity[site]
        return ratio(activity.by_document, np.diff(system.stream.offsets), seed=bench.seed)

    return _by_site(bench, "mean_active_units", measure) + _on_pairs(bench, "mean_active_units")


def max_active_units(bench: Workbench) -> list[Score]:
    """Most units active on any one token."""
    flags = (NO_INTERVAL + "a maximum over tokens cannot be resampled",)

    def measure(system: System, site: str) -> Interval:
        most = float(system.sightings.activity[site].most)
        return Interval(most, None, None, system.stream.n_documents, flags)

    return _by_site(bench, "max_active_units", measure)


def living_share(bench: Workbench) -> list[Score]:
    """Effective over nominal width: the share of units that were active at least once."""

    def measure(system: System, site: str) -> Interval:
        living, tokens = system.sightings.activity[site].living, len(system.stream.tokens)
        flags = (
            f"{living.sum()} of {len(living)} units were active in {tokens:,} tokens",
            NO_INTERVAL + "drawing documents again could only lose units",
        )
        return Interval(float(living.mean()), None, None, len(living), flags)

    return _by_site(bench, "living_share", measure)


def mean_kurtosis(bench: Workbench) -> list[Score]:
    """Mean kurtosis (m4 / m2², 3 for a Gaussian) of the living units, silent tokens included."""

    def measure(system: System, site: str) -> Interval:
        kurtosis = living_kurtosis(system.end_to_end.moments[site], system.sightings.activity[site])
        if len(kurtosis) == 0:
            reason = CONSTANT if system.sightings.activity[site].living.any() else NO_UNITS
            return Interval(None, None, None, 0, (reason,))
        found = mean(kurtosis, seed=bench.seed, what="units")
        return found._replace(flags=(*found.flags, "the interval is over units, not documents"))

    return _by_site(bench, "mean_kurtosis", measure)


def _on_pairs(bench: Workbench, metric: str) -> list[Score]:
    """Scores without a value, which say why a site that claims something is not scored."""
    sites = bench.reader.model.sites()
    return [
        Score(
            metric=metric,
            site=name,
            unit_family=sites[name].kind,
            split=bench.split,
            value=None,
            n=0,
            seconds=0.0,
            tokens=len(bench.stream.tokens),
            controls=dict.fromkeys(CONTROLS, PAIRS),
            flags=(NO_VALUE + PAIRS, *bench.stream.flags),
        )
        for name in on_pairs(sites)
    ]


def living_kurtosis(moments: Moments, activity: Activity) -> np.ndarray:
    """Kurtosis of every living unit that is not constant."""
    kurtosis = moments.kurtosis[activity.living]
    return kurtosis[np.isfinite(kurtosis)]


def _by_site(
    bench: Workbench, metric: str, measure: Callable[[System, str], Interval]
) -> list[Score]:
    """The same measurement of the run and of every control, for each site."""

    def measured(system: System) -> dict[str | None, Interval]:
        return {name: measure(system, name) for name in system.sites()}

    flags = {name: _rule(bench, name) for name in bench.reader.sites()}
    return under_controls(bench, metric, measured, better=None, flags=flags)


def _rule(bench: Workbench, name: str) -> tuple[str, ...]:
    moments, site = bench.reader.end_to_end.moments[name], bench.reader.sites()[name]
    return () if moments.is_sparse or not site.signed else (THRESHOLD,)
