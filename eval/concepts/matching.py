"""How one set of units corresponds to another: known latents, or the units of another seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from pellucid.eval import bootstrap
from pellucid.eval.bootstrap import Interval
from pellucid.eval.concepts.assignment import matched
from pellucid.eval.concepts.gather import columns_at, rows_at
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue

COMPARED = 512
"""Living units of each run that are matched across seeds."""


class Recovery(NamedTuple):
    """How well units recover known features."""

    mcc: float
    """mean |similarity| of matched pairs"""
    uniqueness: float
    """distinct best-matching features over units (SynthSAEBench, arXiv 2602.14687)"""
    similarity: Float[np.ndarray, " pair"]


def recovery(similarity: Float[np.ndarray, "unit feature"]) -> Recovery:
    """MCC and uniqueness from cosines of directions, or correlations of activations."""
    close = np.abs(similarity)
    units, features = matched(close)
    pairs = close[units, features]
    distinct = len(np.unique(close.argmax(1)))
    return Recovery(float(pairs.mean()), distinct / len(close), pairs)


def cosines(
    a: Float[np.ndarray, "unit d_model"], b: Float[np.ndarray, "feature d_model"]
) -> Float[np.ndarray, "unit feature"]:
    """Cosines between directions; 0 where one is 0."""
    scaled = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b)]
    return scaled[0] @ scaled[1].T


def correlations(
    a: Float[np.ndarray, "token unit"], b: Float[np.ndarray, "token feature"]
) -> Float[np.ndarray, "unit feature"]:
    """Pearson correlations of columns over tokens; 0 where one is constant."""
    centered = [x.astype(np.float64) - x.mean(0, dtype=np.float64) for x in (a, b)]
    return cosines(*(x.T for x in centered))


def recovered(
    units_a: Float[np.ndarray, "token unit"],
    latents_a: Float[np.ndarray, "token feature"],
    units_b: Float[np.ndarray, "other unit"],
    latents_b: Float[np.ndarray, "other feature"],
    *,
    seed: int,
) -> Interval:
    """MCC of activations with known latents: matched on half A, correlated on half B.

    The interval is over latents. A latent that no unit is left for counts 0.
    """
    rows, columns = matched(np.abs(correlations(units_a, latents_a)))
    on_b = np.zeros(latents_b.shape[1])
    on_b[columns] = np.abs(correlations(units_b[:, rows], latents_b)[np.arange(len(rows)), columns])
    return bootstrap.mean(on_b, seed=seed, what="latents")


def seed_consistency(
    ours: Harvest,
    theirs: Sequence[Harvest],
    a: Integer[np.ndarray, " place_a"],
    b: Integer[np.ndarray, " place_b"],
    *,
    seed: int,
) -> Interval:
    """Mean |correlation| on half B of living units matched on half A, with those of other runs.

    Every pair of runs enters with equally many units, drawn by the seed: matching profits from
    numbers. The interval is over matched pairs, of all other runs. All must have read the same text.
    """
    rng = np.random.default_rng(seed)
    pairs = [_matched_pairs(ours, other, a, b, rng) for other in theirs]
    return bootstrap.mean(np.concatenate(pairs), seed=seed, what="matched pairs")


def _matched_pairs(
    ours: Harvest, theirs: Harvest, a: np.ndarray, b: np.ndarray, rng: np.random.Generator
) -> Float[np.ndarray, " pair"]:
    if ours.n_tokens != theirs.n_tokens:
        raise NoValue(
            f"the runs read {ours.n_tokens:,} and {theirs.n_tokens:,} tokens: not the same text"
        )
    living = [_living(harvest, a) for harvest in (ours, theirs)]
    n = min(COMPARED, *(len(units) for units in living))
    if n == 0:
        raise NoValue("one of the runs has no unit that is ever on")
    x, y = (
        [columns_at(harvest, np.sort(rng.choice(units, n, replace=False)), at) for at in (a, b)]
        for harvest, units in zip((ours, theirs), living)
    )
    rows, columns = matched(np.abs(correlations(x[0], y[0])))
    return np.abs(correlations(x[1], y[1]))[rows, columns]


def _living(harvest: Harvest, at: np.ndarray) -> np.ndarray:
    on = np.zeros(harvest.about.n_units, dtype=bool)
    for _, rows in rows_at(harvest, at):
        on |= (rows != 0).any(0)
    return np.flatnonzero(on)
