"""PCA and ICA of the vectors that a layer reads: bases that cost no training, as competitors."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.eval.dictionary import mean
from pellucid.eval.halves import halves
from pellucid.eval.harvest import Harvest
from pellucid.eval.made import Made, Source, like, pieces

FITTED = 10_000
"""Tokens that ICA is fitted on."""
ROUNDS = 100
TOLERANCE = 1e-4
"""1 - |cos| of a component between two rounds of ICA below which it has settled."""
FLAT = 1e-10
"""Directions of less than this share of the largest variance are not there."""


def pca(source: Source, *, seed: int) -> Made | str:
    """Principal components of unit variance, the largest first: at most as many as channels."""
    seen = source.seen
    if isinstance(seen, str):
        return seen
    center, basis = whitening(seen, halves(source.stream, seed))
    return _along(source, center, basis.T)


def ica(source: Source, *, seed: int) -> Made | str:
    """Independent components of unit variance, by FastICA on a sample of half A."""
    seen = source.seen
    if isinstance(seen, str):
        return seen
    in_a = halves(source.stream, seed)
    center, basis = whitening(seen, in_a)
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(in_a)
    places = np.sort(rng.choice(places, min(FITTED, len(places)), replace=False))
    white = ((_at(seen, places) - center) @ basis).astype(np.float32)
    found = fast_ica(white, seed=seed)
    made = _along(source, center, (basis @ found.rotation.T).T)
    return replace(made, remark=found.remark())


def whitening(
    seen: Harvest, chosen: np.ndarray
) -> tuple[Float[np.ndarray, " channel"], Float[np.ndarray, "channel component"]]:
    """Mean of the vectors, and the map to uncorrelated coordinates of variance 1, from some tokens.

    The covariance is taken in float64 about the mean of all tokens.
    """
    center = mean(seen).astype(np.float64)
    scatter = torch.zeros(seen.n_units, seen.n_units, dtype=torch.float64)
    for first, rows in seen.chunks():
        off = torch.from_numpy(rows[chosen[first : first + len(rows)]] - center)
        scatter += off.T @ off
    variance, directions = (t.numpy() for t in torch.linalg.eigh(scatter / max(chosen.sum(), 1)))
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
    x, n, turned = torch.from_numpy(white), white.shape[1], 1.0
    start = np.random.default_rng([seed, n]).standard_normal((n, n))
    rotation = _decorrelated(torch.from_numpy(start).to(x))
    for _ in range(ROUNDS):
        g = (x @ rotation.T).tanh_()
        grown = g.T @ x / len(x) - (1 - g.square().mean(0))[:, None] * rotation
        new = _decorrelated(grown)
        turned = float(((new * rotation).sum(1).abs() - 1).abs().max())
        rotation = new
        if turned < TOLERANCE:
            break
    return Independent(rotation.numpy(), turned, turned < TOLERANCE)


def _decorrelated(rows: Tensor) -> Tensor:
    """The nearest orthogonal matrix, `(W Wᵀ)^(-1/2) W`."""
    u, _, v = torch.linalg.svd(rows, full_matrices=False)
    return u @ v


def _at(seen: Harvest, places: np.ndarray) -> np.ndarray:
    rows = [kept[places[(places >= a) & (places < a + len(kept))] - a] for a, kept in seen.chunks()]
    return np.concatenate(rows).astype(np.float64)


def _along(source: Source, center: np.ndarray, read: np.ndarray) -> Made:
    """Coordinates along the rows of `read`, for every token."""
    seen, directions = source.seen, read.astype(np.float32)
    made = source.harvest(like(source.kept, len(read), signed=True), sparse=False)
    for first, last in pieces(seen):
        off = torch.from_numpy(seen.rows(first, last) - center.astype(np.float32))
        made.add_rows((off @ torch.from_numpy(directions).T).numpy())
    return Made(made.close(), read=directions)
