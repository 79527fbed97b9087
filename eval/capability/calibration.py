"""Is a model right as often as it is sure?

Of every position the most likely token, its probability, and whether it came. `calibration` is the
expected calibration error (arXiv 1706.04599) in 15 equal bins of that probability; `selective` is
how often a model is right on the half of the positions where it is surest.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn

from pellucid.eval.bootstrap import DRAWS, FEWEST, Interval, expanded_tail, ratio
from pellucid.eval.capability.parts import by_part
from pellucid.eval.halves import halves
from pellucid.eval.score import NO_INTERVAL, NoValue, Score
from pellucid.eval.stream import Stream, sample, walk

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench

BINS = 15
MOST_TOKENS = 100_000
"""Tokens read, in whole documents: a bin of 15 then holds thousands."""


class Guesses(NamedTuple):
    """The most likely token of each position."""

    sure: Float[np.ndarray, " token"]
    """its probability"""
    right: Bool[np.ndarray, " token"]


def calibration(bench: "Workbench") -> list[Score]:
    """ECE (lower is better), and accuracy: of all guesses, and of the surer half."""
    stream = sample(bench.stream, eot=bench.stream.eot, tokens=MOST_TOKENS, seed=bench.seed)
    in_a = halves(stream, bench.seed) if stream.n_documents > 1 else None

    def measure(system) -> dict[str | None, Interval]:
        guesses = guess(system.model, stream, context=system.context)
        accuracy = ratio(
            stream.per_document(guesses.right * 1.0), np.diff(stream.offsets), seed=bench.seed
        )
        found = {None: expected_error(guesses, stream, seed=bench.seed), "accuracy": accuracy}
        if in_a is not None:
            found["selective"] = selective(guesses, stream, in_a, seed=bench.seed)
        return found

    better = lambda name: "higher" if name else "lower"
    read = len(stream.tokens)
    return by_part(bench, "calibration", measure, better=better, tokens=read)


def guess(model: nn.Module, stream: Stream, *, context: int) -> Guesses:
    """A model's likeliest tokens, in rows of `context` end to end; NoValue where it says NaN."""
    targets = torch.from_numpy(stream.targets())
    sure, right = np.empty(len(targets)), np.empty(len(targets), dtype=bool)
    for window in walk(model, stream, context=context, stride=context):
        top = window.logits.float().softmax(-1).max(-1)
        sure[window.positions] = top.values.cpu().numpy()
        right[window.positions] = (top.indices.cpu() == targets[window.positions]).numpy()
    if np.isnan(sure).any():
        raise NoValue("the model predicts NaN")
    return Guesses(sure, right)


def expected_error(guesses: Guesses, stream: Stream, *, seed: int) -> Interval:
    """Σ over bins of share · |accuracy − mean probability|, its interval over documents.

    The error is an absolute value, so resampling adds to it: the interval is the basic bootstrap's,
    which takes as much off.
    """
    bins = np.minimum((guesses.sure * BINS).astype(int), BINS - 1)
    gap, n = guesses.right - guesses.sure, stream.n_documents
    by_document = np.zeros((n, BINS))
    np.add.at(by_document, (stream.document, bins), gap)
    sizes = np.diff(stream.offsets).astype(float)
    value = float(np.abs(by_document.sum(0)).sum() / sizes.sum())
    if n < FEWEST:
        reason = f"{NO_INTERVAL}{n} documents are too few to resample; {FEWEST} are needed"
        return Interval(value, None, None, n, (reason,))
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), DRAWS)
    drawn = np.abs(weights @ by_document).sum(1) / (weights @ sizes)
    tail = expanded_tail(n)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, max(0.0, float(2 * value - high)), max(0.0, float(2 * value - low)), n)


def selective(
    guesses: Guesses, stream: Stream, in_a: Bool[np.ndarray, " token"], *, seed: int
) -> Interval:
    """Accuracy on half B where the model is as sure as on the surer half of half A."""
    threshold = np.median(guesses.sure[in_a])
    taken = ~in_a & (guesses.sure >= threshold)
    above, below = (stream.per_document(x * 1.0) for x in (taken & guesses.right, taken))
    if not below.any():
        raise NoValue("the model is nowhere on half B as sure as on half A")
    return ratio(above[below > 0], below[below > 0], seed=seed)
