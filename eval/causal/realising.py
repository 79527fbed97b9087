"""Which tokens of the vocabulary realise a label, and how much of a prediction is on them."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from pellucid.eval.concepts.truth import Truth
from pellucid.eval.score import NoValue

FEWEST = 5
"""Occurrences on half A from which a token's share counts."""
SHARE, LIFT = 0.5, 2.0
"""A token realises a label that holds after so large a share of its occurrences, and this many times
as often as after any token."""


def realising(
    tokens: Integer[np.ndarray, " token"], truth: Truth, vocab_size: int
) -> Bool[np.ndarray, "label vocab"]:
    """Of each label the tokens after which it holds, by the counts of half A."""
    at = tokens[truth.a]
    seen = np.bincount(at, minlength=vocab_size)
    held = [np.bincount(at[truth.holds[truth.a, i]], minlength=vocab_size) for i in _range(truth)]
    share = np.stack(held) / np.maximum(seen, 1)
    base = truth.held_a[:, None] / len(truth.a)
    return (seen >= FEWEST) & (share >= SHARE) & (share >= LIFT * base)


def with_tokens(
    tokens: Integer[np.ndarray, " token"], truth: Truth, vocab_size: int
) -> tuple[Truth, Bool[np.ndarray, "label vocab"]]:
    """Those labels that some tokens realise, with the tokens. Raises NoValue where none is."""
    found = realising(tokens, truth, vocab_size)
    kept = np.flatnonzero(found.any(1))
    if not len(kept):
        raise NoValue(f"no token realises any of {len(found)} labels: none decides them")
    return truth.only(kept), found[kept]


def log_odds(
    log_p: Float[Tensor, "prompt vocab"], on: Bool[Tensor, " vocab"]
) -> Float[Tensor, " prompt"]:
    """ln P(on) - ln P(off): no sampling, no noise."""
    return log_p[:, on].logsumexp(1) - log_p[:, ~on].logsumexp(1)


def without(
    log_p: Float[Tensor, "prompt vocab"], left_out: Bool[Tensor, " vocab"]
) -> Float[Tensor, "prompt vocab"]:
    """Log-probabilities among the other tokens."""
    return torch.where(left_out, -torch.inf, log_p).log_softmax(1)


def _range(truth: Truth) -> range:
    return range(len(truth.names))
