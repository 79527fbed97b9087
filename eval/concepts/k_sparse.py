"""k-sparse probing, token by token: how well k units together tell a label (SAEBench; 2305.01610).

Units are standardized, so that loud ones are not preferred; the k whose class means differ most on
half A enter a logistic regression, which is scored by how it ranks the tokens of half B.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.concepts.compared import thresholds_of
from pellucid.eval.concepts.gather import columns_at, rows_at, spaced
from pellucid.eval.concepts.logistic import auprc, auroc, fit
from pellucid.eval.concepts.remembered import remembered
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest

SIZES = (1, 2, 5, 10, 20)
"""Numbers of units; the first three are reported, all are tried for k*."""
TOKENS = 8192
"""Of each half, evenly spaced."""
SHARE = 0.95
"""Of the full probe's AUROC, which k* units reach."""


class Probed(NamedTuple):
    """How k-sparse probes rank half B: for each of SIZES and each label; NaN where not defined."""

    auroc: Float[np.ndarray, "size label"]
    auprc: Float[np.ndarray, "size label"]


class Selection(NamedTuple):
    """Units by |difference of class means| over standard deviation, the largest first."""

    units: Integer[np.ndarray, "rank label"]
    mean: Float[np.ndarray, " unit"]
    spread: Float[np.ndarray, " unit"]


@remembered
def probed(harvest: Harvest, truth: Truth) -> Probed:
    """Probe a site for every label. Raises NoValue where all units are silent."""
    thresholds_of(harvest, truth)
    a, b = spaced(truth.a, TOKENS), spaced(truth.b, TOKENS)
    selected = select(harvest, truth.holds[a], a, most=SIZES[-1])
    units, place = np.unique(selected.units, return_inverse=True)
    place = place.reshape(selected.units.shape)
    scale = lambda x: (x - selected.mean[units]) / selected.spread[units]
    x_a, x_b = (scale(columns_at(harvest, units, at)) for at in (a, b))
    found = np.full((2, len(SIZES), len(truth.names)), np.nan)
    for label in range(len(truth.names)):
        y_a, y_b = truth.holds[a, label], truth.holds[b, label]
        if 0 < y_a.sum() < len(a) and 0 < y_b.sum() < len(b):
            at = place[:, label]
            found[:, :, label] = _by_size(x_a[:, at], y_a, x_b[:, at], y_b)
    return Probed(*found)


def _by_size(x_a: np.ndarray, y_a: np.ndarray, x_b: np.ndarray, y_b: np.ndarray) -> np.ndarray:
    """AUROC and AUPRC on B of the first k columns, for each k."""
    found = np.empty((2, len(SIZES)))
    for i, k in enumerate(SIZES):
        w = fit(x_a[:, :k], y_a)
        score = x_b[:, :k] @ w[:-1]
        found[:, i] = auroc(score, y_b), auprc(score, y_b)
    return found


def select(
    harvest: Harvest,
    y: Bool[np.ndarray, "token label"],
    at: Integer[np.ndarray, " token"],
    *,
    most: int,
) -> Selection:
    """The units whose class means differ most, in standard deviations, on the tokens `at`."""
    held, n = y.sum(0), len(at)
    total, square, inside = 0.0, 0.0, 0.0
    for here, rows in rows_at(harvest, at):
        total = total + rows.sum(0, dtype=np.float64)
        square = square + np.square(rows, dtype=np.float64).sum(0)
        inside = inside + rows.T @ y[here].astype(np.float32)
    mean = total / n
    spread = np.sqrt(np.maximum(square / n - mean**2, 0))
    spread = np.where(spread > 1e-6 * np.abs(mean), spread, np.inf)
    means_in = inside / np.maximum(held, 1)
    means_out = (total[:, None] - inside) / np.maximum(n - held, 1)
    apart = np.abs(means_in - means_out) / spread[:, None]
    return Selection(np.argsort(-apart, axis=0, kind="stable")[:most], mean, spread)


def k_star(
    auroc: Float[np.ndarray, "size label"], full: Float[np.ndarray, " label"]
) -> Float[np.ndarray, " label"]:
    """The fewest units that reach SHARE of the full probe's AUROC; infinity where none of SIZES do."""
    reached = auroc >= SHARE * full
    first = np.array(SIZES, dtype=np.float64)[reached.argmax(0)]
    return np.where(np.isnan(full), np.nan, np.where(reached.any(0), first, np.inf))
