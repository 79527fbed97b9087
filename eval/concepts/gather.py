"""Some units on some tokens, read chunk by chunk."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float32, Integer

from pellucid.eval.harvest import Harvest

TOKENS = 1024
"""Tokens of a chunk."""


def spaced(places: Integer[np.ndarray, " place"], most: int) -> Integer[np.ndarray, " kept"]:
    """At most so many of the places, evenly spaced."""
    return places[:: max(1, -(-len(places) // most))]


def rows_at(
    harvest: Harvest, at: Integer[np.ndarray, " place"]
) -> Iterator[tuple[slice, Float32[np.ndarray, "place unit"]]]:
    """(which of the places, all units there), for ascending places, some at a time."""
    firsts = np.arange(0, harvest.n_tokens + TOKENS, TOKENS)
    for i, (low, high) in enumerate(pairwise(np.searchsorted(at, firsts))):
        if high > low:
            first = i * TOKENS
            rows = harvest.rows(first, min(first + TOKENS, harvest.n_tokens))
            yield slice(int(low), int(high)), rows[at[low:high] - first]


def columns_at(
    harvest: Harvest, units: Integer[np.ndarray, " unit"], at: Integer[np.ndarray, " place"]
) -> Float[np.ndarray, "place unit"]:
    """The units on these tokens, ascending."""
    found = np.empty((len(at), len(units)), dtype=np.float32)
    for here, rows in rows_at(harvest, at):
        found[here] = rows[:, units]
    return found
