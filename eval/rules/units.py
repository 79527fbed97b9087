"""Rules of a drawn sample of every site's units, scored on half B: what rule scores are means of."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.controls import System
from pellucid.eval.harvest import Harvest
from pellucid.eval.processes import each
from pellucid.eval.rules.fit import Learned, Settings, learn, portions
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
    most: int | None,
) -> dict[str, Sampled]:
    """Learn on half A and score on half B, for every site of a system: at most so many units each."""
    document, jobs, names = system.stream.document, [], []
    about = {"text": text, "is_a": is_a, "document": document, "settings": settings}
    for name, site in system.sites().items():
        kept = system.harvest[name]
        for some in portions(chosen(kept.n_units, most, settings.seed), kept.n_tokens):
            jobs.append(partial(_of_units, kept, some, signed=site.signed, **about))
            names.append(name)
    found: dict[str, list[Sampled]] = {name: [] for name in names}
    for name, part in zip(names, each(jobs), strict=True):
        found[name].append(part)
    return {name: _whole(parts) for name, parts in found.items()}


def _whole(parts: Sequence[Sampled]) -> Sampled:
    """All drawn units of a site, of which some were learned at a time."""
    fits = {b: [fit for part in parts for fit in part.fits[b]] for b in parts[0].fits}
    learned = [one for part in parts for one in part.learned]
    return Sampled(learned, fits, np.concatenate([p.mass for p in parts]), parts[0].n_units)


def _of_units(
    kept: Harvest,
    units: Integer[np.ndarray, " unit"],
    *,
    signed: bool,
    text: Text,
    is_a: np.ndarray,
    document: np.ndarray,
    settings: Settings,
) -> Sampled:
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
