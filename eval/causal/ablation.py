"""Units held at a mean, at what they did elsewhere, or at 0; and where that costs the model."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Integer

from pellucid.eval.causal.chosen import Unit, by_site
from pellucid.eval.causal.passes import Edited, Edits, Rows, as_source, values_of
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.controls import System
from pellucid.models import Edit, ablate, patch

Kind = Literal["mean", "resample", "zero"]

RESOLUTION = 0.01
"""Nats: damage to other tokens below this counts as this, or a ratio could be anything."""

Sums = Float[np.ndarray, "document 4"]
"""Of each document: added nats on tokens that realise a label, how many those are, and the same of
the other tokens."""


class Ablator:
    """Makes the edits that ablate units of a system on some rows; can be sent to another process."""

    def __init__(
        self,
        system: System,
        rows: Rows,
        truth: Truth,
        units: Mapping[str, list[int]],
        *,
        resample: bool = True,
        seed: int,
    ) -> None:
        """Reads what the units do, on half A for their means and on the rows to resample them."""
        self.units = units
        self.n_units = {site: system.sites()[site].n_units for site in units}
        self.means = {
            site: system.harvest[site].columns(numbers)[truth.a].mean(0)
            for site, numbers in units.items()
        }
        values = values_of(system.model, rows.tokens, units) if resample else {}
        self.values = {site: kept.float().cpu().numpy() for site, kept in values.items()}
        self.other = another_row(len(rows.tokens), seed)

    def edits(self, kind: Kind, units: Iterable[Unit]) -> Edited:
        """Edits that ablate these units, told which of the rows are being read."""
        return partial(self._edits, kind, by_site(units))

    def held(self, units: Iterable[Unit]) -> tuple[float, ...]:
        """The means that some units are held at, in the order of sites and numbers."""
        return tuple(
            float(self.means[unit.site][self.units[unit.site].index(unit.number)])
            for unit in sorted(set(units))
        )

    def _edits(self, kind: Kind, chosen: Mapping[str, list[int]], at: slice) -> Edits:
        return {site: self._edit(kind, site, numbers, at) for site, numbers in chosen.items()}

    def _edit(self, kind: Kind, site: str, numbers: list[int], at: slice) -> Edit:
        if kind == "zero":
            return ablate(numbers)
        column = [self.units[site].index(number) for number in numbers]
        if kind == "mean":
            return ablate(numbers, value=torch.from_numpy(self.means[site][column]))
        values = torch.from_numpy(self.values[site][self.other[at]][..., column])
        return patch(as_source(values, numbers, self.n_units[site]), numbers)


def another_row(n: int, seed: int) -> Integer[np.ndarray, " row"]:
    """For each of n rows another one: a cycle through all of them."""
    order = np.random.default_rng(seed).permutation(n)
    other = np.empty(n, dtype=np.int64)
    other[order] = np.roll(order, 1)
    return other


def damage(added: Float[np.ndarray, "row column"], rows: Rows, truth: Truth, label: int) -> Sums:
    """Sums over documents of added nats, where a label holds of the predicted token and elsewhere."""
    document = truth.document[rows.places]
    n = int(truth.document[-1]) + 1
    holds = truth.holds[rows.places, label]
    parts = []
    for at in (rows.scored & holds, rows.scored & ~holds):
        parts += [np.bincount(document[at], added[at], n), np.bincount(document[at], minlength=n)]
    return np.stack(parts, axis=-1)


def means(sums: Float[np.ndarray, "*axes 4"]) -> tuple[np.ndarray, np.ndarray]:
    """Added nats a token, on those that realise the label and on the others."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1], sums[..., 2] / sums[..., 3]


def selectivity(sums: Float[np.ndarray, "draw label 4"]) -> Float[np.ndarray, " draw"]:
    """ΔCE on tokens that realise a label by |ΔCE| on the others, each summed over labels.

    Ablation that helps the label's tokens counts as 0; on the others any change is unspecific, so
    that a unit which trades one for the other is not selective. Changes below RESOLUTION count as
    RESOLUTION: a unit that nothing depends on has 0, not 0 / 0.
    """
    here, elsewhere = means(sums)
    below = np.maximum(np.abs(elsewhere), RESOLUTION).sum(1)
    return np.maximum(here, 0).sum(1) / below


def at_equal_damage(
    sums: Float[np.ndarray, "draw label size 4"], level: float
) -> Float[np.ndarray, " draw"]:
    """The same where ΔCE on tokens that realise the label is `level`, between growing sets of units.

    |ΔCE| on the others is read off the straight line between the two sets on either side of the
    level. Labels whose largest set does not reach it are left out; NaN where none does.
    """
    here, elsewhere = (np.insert(part, 0, 0.0, axis=2) for part in means(sums))
    above = here >= level
    after = above.argmax(2)[..., None]
    take = lambda part, at: np.take_along_axis(part, at, axis=2)[..., 0]
    reached = above.any(2)
    high, low = take(here, after), take(here, np.maximum(after - 1, 0))
    share = (level - low) / np.where(reached, high - low, 1)
    start, end = take(elsewhere, np.maximum(after - 1, 0)), take(elsewhere, after)
    price = np.maximum(np.abs(start + share * (end - start)), RESOLUTION)
    with np.errstate(invalid="ignore", divide="ignore"):
        return level * reached.sum(1) / np.where(reached, price, 0).sum(1)
