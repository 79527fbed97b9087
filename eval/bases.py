"""PCA and ICA of the vectors that a layer reads: bases that cost no training, as competitors."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from pellucid.eval.dictionary import inputs, mean
from pellucid.eval.halves import halves
from pellucid.eval.harvest import Harvest
from pellucid.eval.made import Made, like, pieces
from pellucid.eval.reader import Reader

FITTED = 10_000
"""Tokens that ICA is fitted on."""
ROUNDS = 100
TOLERANCE = 1e-4
"""1 - |cos| of a component between two rounds of ICA below which it has settled."""
FLAT = 1e-10
"""Directions of less than this share of the largest variance are not there."""


def pca(reader: Reader, name: str, *, seed: int) -> Made | str:
    """Principal components of unit variance, the largest first: at most as many as channels."""
    seen = inputs(reader, name)
    if isinstance(seen, str):
        return seen
    center, basis = whitening(seen, halves(reader.stream, seed))
    return _along(reader, name, seen, center, basis.T)


def ica(reader: Reader, name: str, *, seed: int) -> Made | str:
    """Independent components of unit variance, by FastICA on a sample of half A."""
    seen = inputs(reader, name)
    if isinstance(seen, str):
        return seen
    in_a = halves(reader.stream, seed)
    center, basis = whitening(seen, in_a)
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(in_a)
    places = np.sort(rng.choice(places, min(FITTED, len(places)), replace=False))
    white = ((_at(seen, places) - center) @ basis).astype(np.float32)
    found = fast_ica(white, seed=seed)
    made = _along(reader, name, seen, center, (basis @ found.rotation.T).T)
    return replace(made, remark=found.remark())


def whitening(
    seen: Harvest, chosen: np.ndarray
) -> tuple[Float[np.ndarray, " channel"], Float[np.ndarray, "channel component"]]:
    """Mean of the vectors, and the map to uncorrelated coordinates of variance 1, from some tokens.

    The covariance is taken in float64 about the mean of all tokens.
    """
    center = mean(seen).astype(np.float64)
    scatter = np.zeros((seen.n_units, seen.n_units))
    for first, rows in seen.chunks():
        off = rows[chosen[first : first + len(rows)]] - center
        scatter += off.T @ off
    variance, directions = np.linalg.eigh(scatter / max(chosen.sum(), 1))
    there = variance > FLAT * max(variance.max(), np.finfo(float).tiny)
    order = np.argsort(-variance[there])
    return center, (directions[:, there] / np.sqrt(variance[there]))[:, order]


class Independent(NamedTuple):
    """What FastICA has found, and whether it had settled when it ended."""

    rotation: Float[np.ndarray, "component component"]
    """a row for each component"""
    turned: float
    """1 - |cos| of the row that turned most in the last round"""
    settled: bool

    def remark(self) -> str:
        """A sentence where it had not settled, else nothing."""
        if self.settled:
            return ""
        return (
            f"its components had not settled after {ROUNDS} rounds: in the last one, one turned "
            f"by 1 - |cos| = {self.turned:.2g}, where {TOLERANCE:g} is asked"
        )


def fast_ica(white: Float[np.ndarray, "token component"], *, seed: int) -> Independent:
    """The rotation whose outputs are least Gaussian.

    Symmetric FastICA with g = tanh (Hyvärinen 1999, doi 10.1109/72.761722, eq. 26 and §V-C), after
    whitening. Stops when no row turns by more than the tolerance, or after 100 rounds.
    """
    n, turned = white.shape[1], 1.0
    start = np.random.default_rng([seed, n]).standard_normal((n, n))
    rotation = _decorrelated(start.astype(white.dtype))
    for _ in range(ROUNDS):
        g = np.tanh(white @ rotation.T)
        grown = g.T @ white / len(white) - (1 - g**2).mean(0)[:, None] * rotation
        new = _decorrelated(grown)
        turned = float(np.abs(np.abs((new * rotation).sum(1)) - 1).max())
        rotation = new
        if turned < TOLERANCE:
            break
    return Independent(rotation, turned, turned < TOLERANCE)


def _decorrelated(rows: np.ndarray) -> np.ndarray:
    """The nearest orthogonal matrix, `(W Wᵀ)^(-1/2) W`."""
    u, _, v = np.linalg.svd(rows, full_matrices=False)
    return u @ v


def _at(seen: Harvest, places: np.ndarray) -> np.ndarray:
    rows = [kept[places[(places >= a) & (places < a + len(kept))] - a] for a, kept in seen.chunks()]
    return np.concatenate(rows).astype(np.float64)


def _along(reader: Reader, name: str, seen: Harvest, center: np.ndarray, read: np.ndarray) -> Made:
    """Coordinates along the rows of `read`, for every token."""
    directions = read.astype(np.float32)
    made = Harvest(like(reader.harvest[name], len(read), signed=True), sparse=False)
    for first, last in pieces(seen):
        made.add_rows((seen.rows(first, last) - center.astype(np.float32)) @ directions.T)
    return Made(made.close(), read=torch.from_numpy(directions))
