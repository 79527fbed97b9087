"""How one set of units corresponds to another: known latents, or the units of another seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Integer

from pellucid.eval import bootstrap
from pellucid.eval.bootstrap import Interval
from pellucid.eval.concepts.assignment import matched
from pellucid.eval.concepts.gather import columns_at, rows_at
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue

COMPARED = 512
"""Living units of a run, drawn by the seed, that are looked for among all units of the others."""
FLAT = 1e-9
"""Units whose variance is at most this share of their mean square count as constant."""


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
    most: int = COMPARED,
) -> Interval:
    """Mean |correlation| on half B of living units matched on half A with those of other runs.

    At most `most` units of the run are drawn by the seed, and each is looked for among all units of
    the other run: a draw of both would seldom hold a unit and its counterpart where layers are
    wide. A unit that none is left for counts 0. The interval is over the drawn units, of all other
    runs. All must have read the same text. Memory grows as drawn × units of the other run.
    """
    units = living(ours, a)
    if not len(units):
        raise NoValue("one of the runs has no unit that is ever on")
    drawn = np.random.default_rng(seed).choice(units, min(most, len(units)), replace=False)
    x = [columns_at(ours, np.sort(drawn), at) for at in (a, b)]
    pairs = [_found_again(ours.n_tokens, *x, other, a, b) for other in theirs]
    return bootstrap.mean(np.concatenate(pairs), seed=seed, what="matched pairs")


def _found_again(
    n_tokens: int,
    x_a: Float[np.ndarray, "place_a unit"],
    x_b: Float[np.ndarray, "place_b unit"],
    theirs: Harvest,
    a: np.ndarray,
    b: np.ndarray,
) -> Float[np.ndarray, " unit"]:
    """|correlation| on half B of each unit with the one that is matched to it on half A."""
    if n_tokens != theirs.n_tokens:
        raise NoValue(
            f"the runs read {n_tokens:,} and {theirs.n_tokens:,} tokens: not the same text"
        )
    units, close = _correlated(x_a, theirs, a)
    if not len(units):
        raise NoValue("one of the runs has no unit that is ever on")
    rows, columns = matched(close)
    y_b = columns_at(theirs, units[columns], b)
    on_b = np.zeros(x_b.shape[1])
    on_b[rows] = _paired(x_b[:, rows], y_b)
    return on_b


def _correlated(
    x: Float[np.ndarray, "place unit"], theirs: Harvest, at: np.ndarray
) -> tuple[Integer[np.ndarray, " other"], Float32[np.ndarray, "unit other"]]:
    """Units of a harvest that are ever on, and their |correlation| with given columns.

    Read once, some tokens at a time: what is kept has one number for each pair of units. The sums
    over products need no mean of theirs, because the given columns have mean 0.
    """
    x = (x - x.mean(0, dtype=np.float64)).astype(np.float32)
    width = theirs.n_units
    products = np.zeros((x.shape[1], width), dtype=np.float32)
    on, sums, squares = np.zeros(width, dtype=bool), np.zeros(width), np.zeros(width)
    for here, rows in rows_at(theirs, at):
        products += x[here].T @ rows
        on |= (rows != 0).any(0)
        sums += rows.sum(0, dtype=np.float64)
        squares += np.einsum("p u, p u -> u", rows, rows, dtype=np.float64)
    moved = squares - sums**2 / len(at)
    # Of a unit that is constant, rounding alone would be left.
    spread = np.where(moved > FLAT * squares, np.sqrt(np.maximum(moved, 0)), np.inf)
    products /= np.maximum(np.linalg.norm(x, axis=0), 1e-12)[:, None]
    products /= spread.astype(np.float32)
    return np.flatnonzero(on), np.abs(products)[:, on]


def _paired(
    x: Float[np.ndarray, "place pair"], y: Float[np.ndarray, "place pair"]
) -> Float[np.ndarray, " pair"]:
    """|Pearson correlation| of columns with those beside them; 0 where one is constant."""
    x, y = (v - v.mean(0, dtype=np.float64) for v in (x, y))
    norms = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
    return np.abs((x * y).sum(0)) / np.maximum(norms, 1e-12)


def living(harvest: Harvest, at: Integer[np.ndarray, " place"]) -> Integer[np.ndarray, " unit"]:
    """Units that are on at one of these ascending places."""
    on = np.zeros(harvest.about.n_units, dtype=bool)
    for _, rows in rows_at(harvest, at):
        on |= (rows != 0).any(0)
    return np.flatnonzero(on)
