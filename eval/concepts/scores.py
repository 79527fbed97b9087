"""The lines of the metric table about units and labels: each measure under controls, as scores."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from pellucid.eval.bootstrap import Interval
from pellucid.eval.concepts import metrics
from pellucid.eval.concepts.by_unit import SIZES
from pellucid.eval.concepts.given import Given, given
from pellucid.eval.concepts.null import permutation_null
from pellucid.eval.concepts.resampled import f1s
from pellucid.eval.concepts.single import WITHOUT
from pellucid.eval.concepts.thresholds import DENSITIES
from pellucid.eval.controls import CEILING, Found, System, under_controls
from pellucid.eval.score import NO_INTERVAL, NoValue, Score
from pellucid.eval.workbench import Workbench

Line = Callable[[Workbench], list[Score]]
Measured = Callable[[System, Given], Found]


def _line(
    name: str,
    measured: Measured,
    better: Literal["lower", "higher"] | None,
    beside: Callable[[Given], dict[str, Found]] = lambda shared: {},
) -> Line:
    """A metric: a measure of the run and of every control, with references beside them."""

    def metric(bench: Workbench) -> list[Score]:
        references: dict[str, Found] = {}
        # Where there are no labels, the measure says so too.
        with suppress(NoValue):
            references = beside(given(bench))
        measure = lambda system: measured(system, given(bench))
        return under_controls(bench, name, measure, better=better, references=references)

    metric.__name__, metric.__doc__ = name, f"{name} of each site, under controls."
    return metric


def _of(measure: Callable[..., Found], *more: Any, **named: Any) -> Measured:
    """A measure that needs nothing but labels."""
    return lambda system, shared: measure(system, shared.truth, *more, seed=shared.seed, **named)


def _beside_coverage(shared: Given) -> dict[str, Found]:
    """Floors and ceiling, and what the same choice finds under permuted labels."""
    truth, floors = shared.truth, shared.floors
    found: dict[str, Found] = {}
    for name, floor in floors._asdict().items():
        value = float(f1s(truth.table(floor.says)).mean())
        found[f"floor_{name}"] = dict.fromkeys(shared.reader.sites(), _bare(value))
    permutation_null.ahead(shared.reader.harvest.values(), truth, seed=shared.seed)
    null = lambda kept: permutation_null(kept, truth, seed=shared.seed)
    found["permutation_null"] = metrics.by_site(shared.reader, null)
    try:
        tops = shared.ceilings.items()
        found[f"{CEILING}_probe"] = {name: _bare(float(top.f1.mean())) for name, top in tops}
    except NoValue as reason:
        found[f"{CEILING}_probe"] = dict.fromkeys(shared.reader.sites(), _missing(str(reason)))
    return found


def _bare(value: float) -> Interval:
    return Interval(value, None, None, 0, (NO_INTERVAL + "a reference",))


def _missing(reason: str) -> Interval:
    return Interval(None, None, None, 0, (reason,))


def _coverage_between(system: System, shared: Given) -> Found:
    return metrics.normalised(
        system, shared.truth, shared.floors.best, shared.ceilings, seed=shared.seed
    )


def _gain(system: System, shared: Given) -> Found:
    return metrics.gain(system, shared.truth, shared.floors.token_only, seed=shared.seed)


def _open(system: System, shared: Given) -> Found:
    return metrics.open_coverage(system, shared.truth, shared.is_open, seed=shared.seed)


def _k_star(system: System, shared: Given) -> Found:
    return metrics.median_k_star(system, shared.truth, shared.ceilings, seed=shared.seed)


class Concept(NamedTuple):
    """One line of the table."""

    measure: Line
    since: Literal["quick", "standard", "full"] = "standard"
    """the first suite that it is part of"""
    uses: tuple[str, ...] = ("labels",)
    """labels of the family that goes with the split"""


_QUICK: dict[str, Measured] = {"concept_gain": _gain}
_STANDARD: dict[str, Measured] = {
    "concept_coverage_normalised": _coverage_between,
    "concept_coverage_ambiguous": _open,
    "concept_reconstruction": _of(metrics.reconstruction),
    **{
        f"concept_coverage_at_{1000 * d:g}_permille": _of(metrics.density_coverage, d)
        for d in DENSITIES
    },
    **{f"k_sparse_auroc_{k}": _of(metrics.k_sparse, k, precision=False) for k in (1, 2, 5)},
    **{f"k_sparse_auprc_{k}": _of(metrics.k_sparse, k, precision=True) for k in (1, 2, 5)},
    **{f"fms_{p}": _of(metrics.fms, p) for p in WITHOUT},
}
_FULL: dict[str, Measured] = {
    **{f"concept_coverage_of_{n}_units": _of(metrics.drawn_coverage, n) for n in SIZES},
    "unit_label_f1": _of(metrics.unit_f1, living=False),
    "unit_label_f1_living": _of(metrics.unit_f1, living=True),
}
_FEWER: dict[str, Measured] = {
    "k_star": _k_star,
    "absorption": _of(metrics.absorption),
    "feature_splitting": _of(metrics.splitting),
}
CONCEPTS: dict[str, Concept] = {
    "concept_coverage": Concept(
        _line("concept_coverage", _of(metrics.coverage), "higher", _beside_coverage), "quick"
    ),
    **{name: Concept(_line(name, found, "higher"), "quick") for name, found in _QUICK.items()},
    **{name: Concept(_line(name, found, "higher")) for name, found in _STANDARD.items()},
    **{name: Concept(_line(name, found, "lower")) for name, found in _FEWER.items()},
    **{name: Concept(_line(name, found, "higher"), "full") for name, found in _FULL.items()},
}
"""Metrics by name, for the table in `eval/suite.py`."""
