"""What needs no model: the best function of the last tokens, fitted on half A.

P(label | last m tokens) is estimated for m = 1 … order; each order leans on the one below, as far as
its context is rare. On half A a token's own label is left out of the counts (otherwise a context
seen once would be known exactly), so that the threshold chosen there holds on half B.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.concepts.gather import spaced
from pellucid.eval.concepts.picks import f1
from pellucid.eval.concepts.truth import Truth

STRENGTH = 2.0
"""Tokens' worth of belief in the order below."""
RANKED = 8192
"""Tokens of each half, evenly spaced, on which it is kept how likely a floor holds a label."""


class Floor(NamedTuple):
    """A prediction for every token and label, with its F1 on half A."""

    says: Bool[np.ndarray, "token label"]
    f1_a: Float[np.ndarray, " label"]
    chance: tuple[Float[np.ndarray, "place label"], Float[np.ndarray, "other label"]]
    """how likely each label is held to be, on the `ranked_places` of half A and of half B"""


def ranked_places(
    truth: Truth,
) -> tuple[Integer[np.ndarray, " place"], Integer[np.ndarray, " other"]]:
    """Tokens of half A and of half B on which floors are compared by how they rank."""
    return spaced(truth.a, RANKED), spaced(truth.b, RANKED)


def always_on(truth: Truth) -> Floor:
    """The label is said to hold everywhere: F1 2q / (1 + q) for a label of frequency q."""
    found = f1(truth.held_a, len(truth.a), truth.held_a)
    n_labels = truth.holds.shape[1]
    same = [np.ones((len(at), n_labels), dtype=np.float32) for at in ranked_places(truth)]
    return Floor(np.ones_like(truth.holds), found, (same[0], same[1]))


def of_last_tokens(truth: Truth, tokens: Integer[np.ndarray, " token"], *, order: int) -> Floor:
    """The best function of the last `order` tokens; 1 is the current token alone."""
    chance = chances(truth, tokens, order=order)
    says, found = np.zeros_like(truth.holds), np.zeros(truth.holds.shape[1])
    for label in range(truth.holds.shape[1]):
        bar, found[label] = best_bar(chance[truth.a, label], truth.holds[truth.a, label])
        says[:, label] = chance[:, label] >= bar
    a, b = ranked_places(truth)
    return Floor(says, found, (chance[a], chance[b]))


def best_of(*floors: Floor) -> Floor:
    """For each label the floor whose F1 is best on half A."""
    first = np.argmax([floor.f1_a for floor in floors], axis=0)[None, None]
    picked = lambda parts: np.take_along_axis(np.stack(parts), first, axis=0)[0]
    says = picked([floor.says for floor in floors])
    a, b = (picked([floor.chance[half] for floor in floors]) for half in (0, 1))
    return Floor(says, np.max([floor.f1_a for floor in floors], axis=0), (a, b))


def chances(
    truth: Truth, tokens: Integer[np.ndarray, " token"], *, order: int
) -> Float[np.ndarray, "token label"]:
    """P(label | last `order` tokens) by the counts of half A; on A without the token itself.

    A context does not reach over the start of a document: there the shorter ones decide.
    """
    holds, in_a = truth.holds.astype(np.float32), truth.half == 0
    # The belief below the lowest order: how often the label holds at all.
    chance = np.broadcast_to(truth.held_a / max(len(truth.a), 1), holds.shape).astype(np.float32)
    group = np.zeros(len(tokens), dtype=np.int64)
    start = np.searchsorted(truth.document, truth.document)
    for m in range(order):
        old = np.arange(len(tokens)) - m
        reaches = old >= start
        last = np.where(reaches, tokens[np.maximum(old, 0)], -1)
        group = np.unique(group * (int(tokens.max()) + 2) + last + 1, return_inverse=True)[1]
        chance = _leaning(chance, holds, in_a & reaches, group, reaches)
    return chance


def _leaning(
    below: np.ndarray, holds: np.ndarray, in_a: np.ndarray, group: np.ndarray, reaches: np.ndarray
) -> np.ndarray:
    seen = np.bincount(group[in_a], minlength=group.max() + 1).astype(np.float32)
    held = np.empty((len(seen), holds.shape[1]), dtype=np.float32)
    for label in range(holds.shape[1]):
        held[:, label] = np.bincount(group[in_a], holds[in_a, label], len(seen))
    own = in_a.astype(np.float32)
    above = held[group] - holds * own[:, None] + STRENGTH * below
    found = above / (seen[group] - own + STRENGTH)[:, None]
    return np.where(reaches[:, None], found, below)


def best_bar(
    score: Float[np.ndarray, " token"], holds: Bool[np.ndarray, " token"]
) -> tuple[float, float]:
    """The threshold whose `score >= threshold` has the highest F1, and that F1."""
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(holds[order])
    last = np.append(ranked[1:] != ranked[:-1], True)
    found = f1(hits, np.arange(1, len(hits) + 1), hits[-1]) * last
    at = int(found.argmax())
    return float(ranked[at]), float(found[at])
