"""How many units speak, how many ever do, and how far from Gaussian they are.

"Active" is defined by `Moments.threshold`; "dead" is silent over all of the text that was read.
These numbers describe a layer and do not rank it: a random layer of equal sparsity has them too.
"""

from collections.abc import Callable

import numpy as np

from pellucid.eval.activity import Activity
from pellucid.eval.bootstrap import Interval, mean, ratio
from pellucid.eval.moments import Moments
from pellucid.eval.reader import Reader
from pellucid.eval.score import Score
from pellucid.eval.workbench import LATER, Workbench

NO_UNITS = "no value: no unit of this layer was ever active"


def mean_active_units(bench: Workbench) -> list[Score]:
    """Mean number of units active on a token (L0)."""

    def measure(reader: Reader, site: str) -> Interval:
        activity = reader.sightings.activity[site]
        return ratio(activity.by_document, np.diff(reader.stream.offsets), seed=bench.seed)

    return _by_site(bench, "mean_active_units", measure)


def max_active_units(bench: Workbench) -> list[Score]:
    """Most units active on any one token."""
    flags = ("no interval: a maximum over tokens cannot be resampled",)

    def measure(reader: Reader, site: str) -> Interval:
        most = float(reader.sightings.activity[site].most)
        return Interval(most, None, None, reader.stream.n_documents, flags)

    return _by_site(bench, "max_active_units", measure)


def living_share(bench: Workbench) -> list[Score]:
    """Effective over nominal width: the share of units that were active at least once."""

    def measure(reader: Reader, site: str) -> Interval:
        living, tokens = reader.sightings.activity[site].living, len(reader.stream.tokens)
        flags = (
            f"{living.sum()} of {len(living)} units were active in {tokens:,} tokens",
            "no interval: drawing documents again could only lose units",
        )
        return Interval(float(living.mean()), None, None, len(living), flags)

    return _by_site(bench, "living_share", measure)


def mean_kurtosis(bench: Workbench) -> list[Score]:
    """Mean kurtosis (m4 / m2², 3 for a Gaussian) of the living units, silent tokens included."""

    def measure(reader: Reader, site: str) -> Interval:
        kurtosis = living_kurtosis(reader.end_to_end.moments[site], reader.sightings.activity[site])
        if len(kurtosis) == 0:
            return Interval(None, None, None, 0, (NO_UNITS,))
        found = mean(kurtosis, seed=bench.seed, what="units")
        return found._replace(flags=(*found.flags, "the interval is over units, not documents"))

    return _by_site(bench, "mean_kurtosis", measure)


def living_kurtosis(moments: Moments, activity: Activity) -> np.ndarray:
    """Kurtosis of every living unit that is not constant."""
    kurtosis = moments.kurtosis[activity.living]
    return kurtosis[np.isfinite(kurtosis)]


def _by_site(
    bench: Workbench, metric: str, measure: Callable[[Reader, str], Interval]
) -> list[Score]:
    """The same measurement of the run and of its twin, for each site."""
    return [
        Score.of(
            measure(bench.reader, name),
            metric=metric,
            site=name,
            unit_family=site.kind,
            split=bench.split,
            seconds=bench.reader.end_to_end.seconds + bench.reader.sightings.seconds,
            tokens=len(bench.stream.tokens),
            controls=_controls(measure(bench.twin, name)),
            flags=(*_rule(bench, name), *bench.stream.flags),
        )
        for name, site in bench.reader.sites().items()
    ]


def _controls(twin: Interval) -> dict[str, float | str]:
    found = NO_UNITS if twin.value is None else twin.value
    later = ("permuted_weights", "rotated_units", "matched_dense")
    return {"random_twin": found} | dict.fromkeys(later, LATER)


def _rule(bench: Workbench, name: str) -> tuple[str, ...]:
    moments, site = bench.reader.end_to_end.moments[name], bench.reader.sites()[name]
    if moments.is_sparse or not site.signed:
        return ()
    return ("active: above 10 % of the unit's largest |activation|; it is never exactly silent",)
