"""Questions worth asking of some places: found from sums over tokens, not one by one.

A question that holds at places of total weight w1 and weighted sum s1, out of W and S, lowers the
squared error by s1²/w1 + (S-s1)²/(W-w1) - S²/W. For all tokens at an offset, all pairs of tokens,
and all labels these sums are histograms; counts are first ranked by their correlation with the
activation and the best of them measured exactly at every threshold.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from pellucid.eval.rules.drawn import Drawn
from pellucid.eval.rules.literals import Among, Count, Label, Literal, Pair
from pellucid.eval.rules.text import LEAST, WINDOWS, Text

Sums = Float[np.ndarray, "*some"] | float
RIDGE = 2.0
"""Tokens at the mean that are added to every side, against sides of few tokens."""
PAIRS = tuple((0, j) for j in range(1, 9)) + ((1, 2), (1, 3), (1, 4))
BEST = 6
"""Candidates kept of each kind."""
PASSED = np.searchsorted(LEAST, np.arange(LEAST[-1] + 1), side="right")
"""How many thresholds of a count each count reaches; a larger one reaches all."""
LOOKED = (4, 16, 64, 256)
"""Windows over which counts are ranked; those beside the best are measured too."""
COUNTED = 1024
"""Places that rank counts."""


class Candidate(NamedTuple):
    """A question and by how much it lowers the squared error (weighted, in spreads)."""

    gain: float
    literal: Literal


class Slope(NamedTuple):
    """A ramp over min(count, cap) and by how much it lowers the squared error."""

    gain: float
    token: int
    window: int
    cap: int


def gains(weight: Sums, total: Sums, W: float, S: float) -> Sums:
    """By how much the squared error falls where a part of this weight and sum is split off."""
    rest = (S - total) ** 2 / (W - weight + RIDGE)
    return total**2 / (weight + RIDGE) + rest - S**2 / (W + RIDGE)


def mine(drawn: Drawn, rows: Integer[np.ndarray, " row"]) -> tuple[list[Candidate], list[Slope]]:
    """The best questions, and ramps, for the places `rows` of a draw."""
    weight = drawn.weight[rows]
    moved = weight * drawn.values[rows]
    counts, slopes = _counts(drawn, rows, weight, moved)
    found = [*mine_tokens(drawn, rows), *_pairs(drawn, rows, weight, moved)]
    return [*found, *counts, *_labels(drawn, rows, weight, moved)], slopes


def _top(gain: np.ndarray) -> np.ndarray:
    flat = gain.ravel()
    some = np.argpartition(-flat, min(BEST, len(flat) - 1))[:BEST]
    return some[np.argsort(-flat[some], kind="stable")]


def largest(numbers: np.ndarray, n: int) -> list[int]:
    """Flat places of the n largest numbers, the largest first, and of equal ones the first."""
    left, found = numbers.ravel().copy(), []
    for _ in range(n):
        found.append(int(left.argmax()))
        left[found[-1]] = -np.inf
    return found


def mine_tokens(drawn: Drawn, rows: Integer[np.ndarray, " row"]) -> list[Candidate]:
    """The best single tokens at any offset."""
    weight = drawn.weight[rows]
    moved = weight * drawn.values[rows]
    width, (offsets, _) = drawn.text.n_symbols, drawn.symbols.shape
    keys = (drawn.symbols[:, rows] + np.arange(offsets)[:, None] * width).ravel()
    weights = np.bincount(keys, np.tile(weight, offsets))
    # Of some ten thousand tokens at an offset only those that are there can tell anything.
    there = np.flatnonzero(weights > 0)
    totals = np.bincount(keys, np.tile(moved, offsets))[there]
    gain = gains(weights[there], totals, weight.sum(), moved.sum())
    return [
        Candidate(float(gain[at]), Among(int(there[at] // width), (int(there[at] % width),)))
        for at in _top(gain)
    ]


def _pairs(drawn: Drawn, rows, weight, moved) -> list[Candidate]:
    width, W, S = drawn.text.n_symbols, weight.sum(), moved.sum()
    found = []
    for offsets in PAIRS:
        keys, which = drawn.pairs(offsets)
        weights = np.bincount(which[rows], weight)
        there = np.flatnonzero(weights > 0)
        gain = gains(weights[there], np.bincount(which[rows], moved)[there], W, S)
        for at in _top(gain)[:2]:
            tokens = tuple(map(int, divmod(keys[there[at]], width)))
            found.append(Candidate(float(gain[at]), Pair(offsets, tokens)))
    return sorted(found, key=lambda c: -c.gain)[:BEST]


def _labels(drawn: Drawn, rows, weight, moved) -> list[Candidate]:
    if not drawn.text.n_labels:
        return []
    held = drawn.labels.take(rows, axis=0).T
    gain = gains(held @ weight, held @ moved, weight.sum(), moved.sum())
    return [Candidate(float(gain[at]), Label(int(at))) for at in _top(gain)]


def _counts(drawn: Drawn, rows, weight, moved) -> tuple[list[Candidate], list[Slope]]:
    """Thresholds and ramps of the counts that go with the activation most."""
    asked = _ranked_counts(drawn, rows, weight, moved)
    found, slopes = [], []
    for token, window in asked:
        count = drawn.count(token, window)[rows]
        place = PASSED[np.minimum(count, LEAST[-1])]
        below = np.cumsum(np.bincount(place, weight, len(LEAST) + 1))[:-1]
        sums = np.cumsum(np.bincount(place, moved, len(LEAST) + 1))[:-1]
        gain = gains(below, sums, weight.sum(), moved.sum())
        best = int(gain.argmax())
        found.append(Candidate(float(gain[best]), Count(token, window, LEAST[best])))
        slopes.append(_slope(token, window, count, weight, moved))
    return (
        sorted(found, key=lambda c: -c.gain)[:BEST],
        sorted(slopes, key=lambda s: -s.gain)[:2],
    )


def _ranked_counts(drawn: Drawn, rows, weight, moved) -> list[tuple[int, int]]:
    """(token, window) whose count goes with the activation, the strongest first."""
    some = rows if len(rows) <= COUNTED else rows[:: -(-len(rows) // COUNTED)]
    weight = drawn.weight[some]
    moved = weight * drawn.values[some]
    moved = moved - weight * (moved.sum() / weight.sum())
    score = _count_scores(drawn.text, drawn.places[some], weight, moved)
    strongest = largest(score, BEST)
    found = [(int(at % score.shape[1]), int(at // score.shape[1])) for at in strongest]
    found += [(drawn.text.vocab_size, len(LOOKED) - 1), (drawn.text.vocab_size, 1)]
    asked = []
    for rank, (token, level) in enumerate(found):
        window = _window(LOOKED[level])
        beside = (0, -1, 1) if rank < 2 else (0,)
        asked += [
            (token, WINDOWS[window + step]) for step in beside if 0 <= window + step < len(WINDOWS)
        ]
    return list(dict.fromkeys(asked))


def _window(length: int) -> int:
    """Which window is meant by a length that was looked over."""
    return min(int(np.searchsorted(WINDOWS, length)), len(WINDOWS) - 1)


def _count_scores(text: Text, places, weight, moved) -> Float[np.ndarray, "window token"]:
    """Squared sum of activation × count over the count's sum, for each window and token."""
    width, deep = text.n_symbols, places - text.begin[places] + 1
    reached, with_value, seen = 0, np.zeros(width), np.zeros(width)
    scores = np.zeros((len(LOOKED), width))
    for level, last in enumerate(LOOKED):
        held = np.minimum(deep, last) - np.minimum(deep, reached)
        symbol = text.tokens[_backwards(places - reached, held)]
        with_value += np.bincount(symbol, np.repeat(moved, held), width)
        seen += np.bincount(symbol, np.repeat(weight, held), width)
        scores[level] = with_value**2 / (seen + RIDGE)
        reached = last
    return scores


def _backwards(
    first: Integer[np.ndarray, " place"], held: Integer[np.ndarray, " place"]
) -> Integer[np.ndarray, " visited"]:
    """The stretches of `held` positions that begin at each of `first` and go back, one after another."""
    ended = np.cumsum(held)
    return np.repeat(first + ended - held, held) - np.arange(ended[-1])


def _slope(token: int, window: int, count, weight, moved) -> Slope:
    """The cap at which a line in min(count, cap) fits best."""
    W, S = weight.sum(), moved.sum()
    capped = np.minimum(count.astype(np.float64), np.array(LEAST[1:])[:, None])
    centered = capped - (capped @ weight / W)[:, None]
    spread = (centered**2) @ weight
    gain = (centered @ (moved - weight * S / W)) ** 2 / (spread + RIDGE)
    best = int(gain.argmax())
    return Slope(float(gain[best]), token, window, LEAST[1 + best])
