"""Rules of a drawn sample of every site's units, scored on half B: what rule scores are means of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.controls import System
from pellucid.eval.halves import rearranged
from pellucid.eval.harvest import Harvest
from pellucid.eval.processes import each
from pellucid.eval.rules.fit import Learned, Settings, learn, portions
from pellucid.eval.rules.predictions import Fit, chosen, fit, null_fits, threshold
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
    nulls: dict[int, list[list[Fit]]]
    """by budget and unit: fits to activations that go to other files, one for each permutation"""

    @property
    def permuted(self) -> "list[Sampled]":
        """The same units with the fits of each permutation in the place of their own."""
        draws = range(min((len(each) for one in self.nulls.values() for each in one), default=0))
        return [
            replace(self, fits={b: [each[i] for each in one] for b, one in self.nulls.items()})
            for i in draws
        ]

    @property
    def density(self) -> Float[np.ndarray, " unit"]:
        return np.array([one.density for one in self.learned])

    @property
    def living(self) -> Bool[np.ndarray, " unit"]:
        """Units that were not always 0 on half A."""
        return self.density > 0

    def values(self, what: str, budget: int) -> Float[np.ndarray, " unit"]:
        """One number of every unit's fit: `f1`, `gain`, `r2` or `always`."""
        return np.array([getattr(fit, what) for fit in self.fits[budget]])


def sampled(
    system: System,
    text: Text,
    is_a: Bool[np.ndarray, " token"],
    settings: Settings,
    *,
    most: int | None,
    draws: int = 0,
) -> dict[str, Sampled]:
    """Learn on half A and score on half B, for every site of a system: at most so many units each.

    Where `draws` are asked for, rules are scored against permuted activations as often.
    """
    document, jobs, names = system.stream.document, [], []
    moved = _moved(document[~is_a], draws, settings.seed)
    about = {"text": text, "is_a": is_a, "document": document, "settings": settings}
    about |= {"moved": moved}
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
    nulls = {b: [each for part in parts for each in part.nulls[b]] for b in parts[0].nulls}
    learned = [one for part in parts for one in part.learned]
    return Sampled(learned, fits, np.concatenate([p.mass for p in parts]), parts[0].n_units, nulls)


def _of_units(
    kept: Harvest,
    units: Integer[np.ndarray, " unit"],
    *,
    signed: bool,
    text: Text,
    is_a: np.ndarray,
    document: np.ndarray,
    settings: Settings,
    moved: Sequence[Integer[np.ndarray, " place"]],
) -> Sampled:
    columns = kept.columns(units).T
    learned = learn(kept, text, is_a, document, units, settings)
    fits, nulls = ({budget: [] for budget in settings.budgets} for _ in range(2))
    for one, values in zip(learned, columns, strict=True):
        above = threshold(values[is_a], sparse=kept.sparse, signed=signed)
        scored = {}
        for budget, rule in one.rules.items():
            if rule not in scored:
                about = rule, text, values, is_a, above
                scored[rule] = fit(*about), null_fits(*about, moved) if moved else []
            fits[budget].append(scored[rule][0])
            nulls[budget].append(scored[rule][1])
    mass = np.abs(columns[:, ~is_a]).sum(1, dtype=np.float64)
    return Sampled(learned, fits, mass, kept.n_units, nulls)


def _moved(
    document: Integer[np.ndarray, " place"], draws: int, seed: int
) -> list[Integer[np.ndarray, " place"]]:
    """Where what stands at each place goes, in several ways."""
    rng = np.random.default_rng(seed)
    return [np.argsort(rearranged(document, rng)) for _ in range(draws)]
