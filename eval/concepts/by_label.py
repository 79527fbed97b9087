"""Scores that are means over labels: how each label's own is found, and on which scale."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Float
from numpy import ndarray

from pellucid.eval.concepts.by_unit import SIZES as UNITS
from pellucid.eval.concepts.by_unit import by_unit
from pellucid.eval.concepts.compared import compared
from pellucid.eval.concepts.densities import coverage_at_densities
from pellucid.eval.concepts.k_sparse import SIZES, probed
from pellucid.eval.concepts.levels import What
from pellucid.eval.concepts.remembered import remembered
from pellucid.eval.concepts.resampled import f1s
from pellucid.eval.concepts.single import WITHOUT, site_fms
from pellucid.eval.concepts.thresholds import DENSITIES
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue


class ByLabel(NamedTuple):
    """A score of each label."""

    what: What
    find: remembered
    of: Callable[[Any], Float[ndarray, " label"]]
    """takes it out of what was found; NaN where a label has none"""

    def __call__(self, kept: Harvest, truth: Truth) -> Float[ndarray, " label"]:
        """The scores of a site's units; NoValue where they have none."""
        return self.of(self.find(kept, truth))


def _at(density: float) -> Callable[[Any], Float[ndarray, " label"]]:
    def of(found: Any) -> Float[ndarray, " label"]:
        if isinstance(found[density], str):
            raise NoValue(found[density])
        return f1s(found[density].table)

    return of


def _drawn(n: int) -> Callable[[Any], Float[ndarray, " label"]]:
    def of(found: Any) -> Float[ndarray, " label"]:
        if n not in found.curve:
            raise NoValue(f"the layer has fewer than {n} units")
        return found.curve[n]

    return of


def _ranked(what: What, k: int) -> Callable[[Any], Float[ndarray, " label"]]:
    return lambda found: getattr(found, what)[SIZES.index(k)]


PICKED = ByLabel("f1", compared, lambda found: f1s(found.picked))
RECONSTRUCTED = ByLabel("f1", compared, lambda found: f1s(found.reconstructed))
BY_LABEL: dict[str, ByLabel] = {
    "concept_coverage": PICKED,
    "concept_reconstruction": RECONSTRUCTED,
    **{
        f"concept_coverage_at_{1000 * d:g}_permille": ByLabel("f1", coverage_at_densities, _at(d))
        for d in DENSITIES
    },
    **{f"concept_coverage_of_{n}_units": ByLabel("f1", by_unit, _drawn(n)) for n in UNITS},
    **{
        f"k_sparse_{what}_{k}": ByLabel(what, probed, _ranked(what, k))
        for what in ("auroc", "auprc")
        for k in (1, 2, 5)
    },
    **{f"fms_{p}": ByLabel("fms", site_fms, lambda found, p=p: found[p]) for p in WITHOUT},
}
"""By the name of the metric that is its mean."""
