"""Rules of a drawn sample of every site's units, scored on half B: what rule scores are means of."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from pellucid.eval.controls import System
from pellucid.eval.harvest import Harvest
from pellucid.eval.processes import each
from pellucid.eval.rules.fit import Learned, Settings, learn
from pellucid.eval.rules.predictions import Fit, chosen, fit, threshold
from pellucid.eval.rules.text import Text


@dataclass(frozen=True)
class Sampled:
    """Some units of one site, and how well their rules do."""

    learned: list[Learned]
    fits: dict[int, list[Fit]]
    """by budget, in the order of the units"""
    mass: Float[np.ndarray, " unit"]
    """sum of |activation| over half B"""
    n_units: int

    @property
    def density(self) -> Float[np.ndarray, " unit"]:
        return np.array([one.density for one in self.learned])

    @property
    def living(self) -> Bool[np.ndarray, " unit"]:
        """Units that were not always 0 on half A."""
        return self.density > 0

    def values(self, what: str, budget: int) -> Float[np.ndarray, " unit"]:
        """One number of every unit's fit: `f1`, `gain` or `r2`."""
        return np.array([getattr(fit, what) for fit in self.fits[budget]])


def sampled(
    system: System,
    text: Text,
    is_a: Bool[np.ndarray, " token"],
    settings: Settings,
    *,
    most: int,
) -> dict[str, Sampled]:
    """Learn on half A and score on half B, for every site of a system: at most so many units each."""
    sites, document = system.sites(), system.stream.document
    about = {"text": text, "is_a": is_a, "document": document, "settings": settings, "most": most}
    jobs = [
        partial(_of_site, system.harvest[n], signed=s.signed, **about) for n, s in sites.items()
    ]
    return dict(zip(sites, each(jobs), strict=True))


def _of_site(
    kept: Harvest,
    *,
    signed: bool,
    text: Text,
    is_a: np.ndarray,
    document: np.ndarray,
    settings: Settings,
    most: int,
) -> Sampled:
    units = chosen(kept.n_units, most, settings.seed)
    columns = kept.columns(units).T
    learned = learn(kept, text, is_a, document, units, settings)
    fits = {budget: [] for budget in settings.budgets}
    for one, values in zip(learned, columns, strict=True):
        above = threshold(values[is_a], sparse=kept.sparse, signed=signed)
        scored = {}
        for budget, rule in one.rules.items():
            if rule not in scored:
                scored[rule] = fit(rule, text, values, is_a, above)
            fits[budget].append(scored[rule])
    mass = np.abs(columns[:, ~is_a]).sum(1, dtype=np.float64)
    return Sampled(learned, fits, mass, kept.n_units)
