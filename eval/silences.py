"""Places where a unit may be silent, picked before the pass that finds out."""

from collections import Counter

import numpy as np
from jaxtyping import Integer

from pellucid.eval.moments import Moments
from pellucid.eval.stream import Stream

KINDS = {"silent": 3, "near_miss": 3}
"""Kinds of silence, and how many contexts of each are shown."""
TRIALS, TOKENS = 16, 8
"""Places tried for each silence, and different tokens tried for near misses."""
PLACE = np.dtype([("position", "i8"), ("unit", "i4"), ("kind", "i4"), ("turn", "i4")])


def places(
    stream: Stream, moments: Moments, units: Integer[np.ndarray, " shown"], seed: int
) -> np.ndarray:
    """Candidates of every shown unit, by position; `turn` is the order in which they are preferred.

    `silent`: anywhere. `near_miss`: where the current token is one at which the unit is active
    elsewhere, those of its peaks first. `unit` counts shown units.
    """
    by_token = np.argsort(stream.tokens, kind="stable")
    ordered, found = stream.tokens[by_token], []
    for i, unit in enumerate(units):
        rng = np.random.default_rng([seed, int(unit)])
        anywhere = rng.integers(0, len(stream.tokens), TRIALS)
        found += [(p, i, 0, turn) for turn, p in enumerate(anywhere)]
        for rank, token in enumerate(active_tokens(stream, moments, unit)):
            first, last = np.searchsorted(ordered, [token, token + 1])
            picked = rng.choice(last - first, min(TRIALS, last - first), replace=False)
            same = by_token[first + picked]
            found += [(p, i, 1, turn * TOKENS + rank) for turn, p in enumerate(same)]
    return np.sort(np.array(found, dtype=PLACE), order=["position", "unit", "kind", "turn"])


def active_tokens(stream: Stream, moments: Moments, unit: int) -> list[int]:
    """Current tokens at the unit's peaks, the most frequent first, then at other active places."""
    ordered = []
    for kept in (moments.peaks, moments.typical):
        positions = [int(found[unit]) for found in kept if found[unit] >= 0]
        counts = Counter(int(token) for token in stream.tokens[positions])
        ordered.append([token for token, _ in counts.most_common()])
    peaks, typical = ordered
    first = peaks[: TOKENS // 2]
    return (first + [token for token in typical if token not in first])[:TOKENS]
