"""How many units speak, how many ever do, and how far from Gaussian they are.

"Active" is defined by `Moments.threshold`; "dead" is silent over all of the text that was read.
These numbers describe a layer, they do not rank it: a random layer of the same sparsity has them too.
"""

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
        lengths = np.diff(reader.stream.offsets)
        return ratio(activity.by_document, lengths, seed=bench.seed)

    return _by_site(bench, "mean_active_units", measure, n=lambda site: bench.stream.n_documents)


def max_active_units(bench: Workbench) -> list[Score]:
    """Most units active on any one token."""
    reason = "no interval: a maximum over tokens cannot be resampled"

    def measure(reader: Reader, site: str) -> Interval:
        return Interval(float(reader.sightings.activity[site].most), None, None, (reason,))

    return _by_site(bench, "max_active_units", measure, n=lambda site: bench.stream.n_documents)


def living_share(bench: Workbench) -> list[Score]:
    """Effective over nominal width: the share of units that were active at least once."""

    def measure(reader: Reader, site: str) -> Interval:
        living = reader.sightings.activity[site].living
        flags = (
            f"{living.sum()} of {len(living)} units were active in {len(bench.stream.tokens):,} tokens",
            "no interval: drawing documents again could only lose units",
        )
        return Interval(float(living.mean()), None, None, flags)

    return _by_site(bench, "living_share", measure, n=lambda site: _width(bench, site))


def mean_kurtosis(bench: Workbench) -> list[Score]:
    """Mean kurtosis (m4 / m2², 3 for a Gaussian) of the living units, silent tokens included."""

    def measure(reader: Reader, site: str) -> Interval:
        kurtosis = living_kurtosis(reader.end_to_end.moments[site], reader.sightings.activity[site])
        if len(kurtosis) == 0:
            return Interval(None, None, None, (NO_UNITS,))
        found = mean(kurtosis, seed=bench.seed, what="units")
        return found._replace(flags=(*found.flags, "the interval is over units, not documents"))

    living = lambda site: int(bench.reader.sightings.activity[site].living.sum())
    return _by_site(bench, "mean_kurtosis", measure, n=living)


def living_kurtosis(moments: Moments, activity: Activity) -> np.ndarray:
    """Kurtosis of every living unit that is not constant."""
    kurtosis = moments.kurtosis[activity.living]
    return kurtosis[np.isfinite(kurtosis)]


def _width(bench: Workbench, site: str) -> int:
    return bench.reader.sites()[site].n_units


def _by_site(bench: Workbench, metric: str, measure, *, n) -> list[Score]:
    """The same measurement of the run and of its twin, for each site."""
    return [
        Score.of(
            measure(bench.reader, name),
            metric=metric,
            site=name,
            unit_family=site.kind,
            split=bench.split,
            n=n(name),
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
    if bench.reader.end_to_end.moments[name].is_sparse or not bench.reader.sites()[name].signed:
        return ()
    return ("active means above 10 % of the unit's largest |activation|: these units are never silent",)
