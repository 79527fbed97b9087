"""The lines of the metric table about units and labels: each measure under controls, as scores."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from pellucid.eval.concepts import beside, metrics
from pellucid.eval.concepts.beside import Beside, Measured
from pellucid.eval.concepts.between import normalised
from pellucid.eval.concepts.by_label import BY_LABEL, ByLabel
from pellucid.eval.concepts.by_unit import SIZES
from pellucid.eval.concepts.given import Given, given
from pellucid.eval.concepts.single import WITHOUT
from pellucid.eval.concepts.thresholds import DENSITIES
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.controls import Found, System, under_controls
from pellucid.eval.score import NoValue, Score
from pellucid.eval.workbench import Workbench

Line = Callable[[Workbench], list[Score]]
Better = Literal["lower", "higher"]


def _line(name: str, measured: Measured, better: Better, references: Beside) -> Line:
    """A metric: a measure of the run and of every control, with references beside them."""

    def metric(bench: Workbench) -> list[Score]:
        found: dict[str, Found] = {}
        # Where there are no labels, the measure says so too.
        with suppress(NoValue):
            found = references(given(bench))
        measure = lambda system: measured(system, given(bench), given(bench).truth)
        return under_controls(bench, name, measure, better=better, references=found)

    metric.__name__, metric.__doc__ = name, f"{name} of each site, under controls."
    return metric


def _of(measure: Callable[..., Found], *more: Any, **named: Any) -> Measured:
    """A measure that needs nothing but labels."""
    return lambda system, shared, truth: measure(system, truth, *more, seed=shared.seed, **named)


def _between(scored: ByLabel) -> Measured:
    """Where the scores of labels stand between floor and ceiling."""

    def measured(system: System, shared: Given, truth: Truth) -> Found:
        low, high = shared.levels(scored.what)["best"], shared.tops(scored.what)
        return normalised(system, truth, scored, low, high, seed=shared.seed)

    return measured


def _gain(system: System, shared: Given, truth: Truth) -> Found:
    return metrics.gain(system, truth, shared.floors.token_only, seed=shared.seed)


def _open(system: System, shared: Given, truth: Truth) -> Found:
    return metrics.open_coverage(system, truth, shared.is_open, seed=shared.seed)


def _k_star(system: System, shared: Given, truth: Truth) -> Found:
    return metrics.median_k_star(system, truth, shared.ceilings, seed=shared.seed)


class Concept(NamedTuple):
    """One line of the table."""

    measure: Line
    since: Literal["quick", "standard", "full"] = "standard"
    """the first suite that it is part of"""
    uses: tuple[str, ...] = ("labels",)
    """labels of the family that goes with the split"""


_BY_LABEL: dict[str, Measured] = {
    "concept_coverage": _of(metrics.coverage),
    "concept_reconstruction": _of(metrics.reconstruction),
    **{
        f"concept_coverage_at_{1000 * d:g}_permille": _of(metrics.density_coverage, d)
        for d in DENSITIES
    },
    **{f"k_sparse_auroc_{k}": _of(metrics.k_sparse, k, precision=False) for k in (1, 2, 5)},
    **{f"k_sparse_auprc_{k}": _of(metrics.k_sparse, k, precision=True) for k in (1, 2, 5)},
    **{f"fms_{p}": _of(metrics.fms, p) for p in WITHOUT},
}
_LATE = {f"concept_coverage_of_{n}_units": _of(metrics.drawn_coverage, n) for n in SIZES}
_OF_UNITS: dict[str, Measured] = {
    "unit_label_f1": _of(metrics.unit_f1, living=False),
    "unit_label_f1_living": _of(metrics.unit_f1, living=True),
}
_FEWER: dict[str, Measured] = {
    "k_star": _k_star,
    "absorption": _of(metrics.absorption),
    "feature_splitting": _of(metrics.splitting),
}
_ELSEWHERE = "it is fitted on all tokens, not on those that leave a label open"
_BY_UNIT = "it has a score for each label, and this is a mean over units: see concept_coverage"
_NO_UNITS = "it has no units to count, or to fall silent"
_LOWEST = "units that tell nothing have the lowest score there is: none is below a null"
_PROBED = "units are counted against the probe, which permuted labels would bring to chance too"


def _lines(name: str, measured: Measured) -> dict[str, Concept]:
    """A mean over labels, and where it stands between floor and ceiling."""
    scored, share, its = BY_LABEL[name], _between(BY_LABEL[name]), f"{name}_normalised"
    own = beside.of_label_score(scored, measured)
    shares = beside.of_label_score(scored, share, between=True)
    later = "full" if name in _LATE else "standard"
    since = "quick" if name == "concept_coverage" else later
    return {
        name: Concept(_line(name, measured, "higher", own), since),
        its: Concept(_line(its, share, "higher", shares), later),
    }


def _without(name: str, measured: Measured, why: str, null: str | Measured) -> Line:
    """A metric that no floor and no probe has."""
    better = "lower" if isinstance(null, str) else "higher"
    return _line(name, measured, better, beside.reasons(why, null))


CONCEPTS: dict[str, Concept] = {
    "concept_gain": Concept(_line("concept_gain", _gain, "higher", beside.of_gain), "quick"),
    **{
        k: line
        for name, one in (_BY_LABEL | _LATE).items()
        for k, line in _lines(name, one).items()
    },
    "concept_coverage_ambiguous": Concept(
        _without("concept_coverage_ambiguous", _open, _ELSEWHERE, _open)
    ),
    **{
        name: Concept(_without(name, found, _NO_UNITS, _PROBED if name == "k_star" else _LOWEST))
        for name, found in _FEWER.items()
    },
    **{
        name: Concept(_without(name, found, _BY_UNIT, found), "full")
        for name, found in _OF_UNITS.items()
    },
}
"""Metrics by name, for the table in `eval/suite.py`."""
