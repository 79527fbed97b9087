"""The ceiling: tuned linear probes on what each layer reads from the stream.

What a linear probe of all channels at that depth knows of a label is what a single unit could at
best be hoped to know. Penalty and threshold are chosen on documents of half A that the probe was
not fitted on.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer

from pellucid.eval.concepts.floors import best_bar
from pellucid.eval.concepts.gather import columns_at
from pellucid.eval.concepts.levels import balanced_bar
from pellucid.eval.concepts.logistic import auprc, auroc, fit_many
from pellucid.eval.concepts.picks import f1
from pellucid.eval.concepts.tree import balanced_accuracy
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest
from pellucid.eval.processes import each
from pellucid.eval.reader import Reader
from pellucid.eval.score import NoValue

TOKENS = 32768
"""Of both halves, in whole documents."""
PENALTIES = (1e-4, 1e-3, 1e-2)
"""On standardized channels, beside the mean loss."""
DEV = 4
"""Each so many-th document of half A decides on penalty and threshold."""


class Ceiling(NamedTuple):
    """How a probe of all channels does on half B, by label."""

    f1: Float[np.ndarray, " label"]
    auroc: Float[np.ndarray, " label"]
    """NaN where the probed documents of half B have but one class, as is what follows"""
    auprc: Float[np.ndarray, " label"]
    balanced: Float[np.ndarray, " label"]
    """balanced accuracy"""


def ceilings(inputs: Mapping[str, Harvest], truth: Truth, *, seed: int) -> dict[str, Ceiling]:
    """The ceiling of each site, given what its layer reads."""
    if not inputs:
        raise NoValue("what the layers read was not kept")
    at = np.flatnonzero(np.isin(truth.document, _documents(truth, seed)))
    # Sites that read the same share a probe.
    read = list(dict.fromkeys(inputs.values()))
    found = dict(zip(read, each([partial(_probed, kept, at, truth) for kept in read]), strict=True))
    return {site: found[kept] for site, kept in inputs.items()}


def _probed(harvest: Harvest, at: np.ndarray, truth: Truth) -> Ceiling:
    return probed(columns_at(harvest, np.arange(harvest.about.n_units), at), at, truth)


def inputs_of(reader: Reader) -> dict[str, Harvest]:
    """What the layer of each site reads, where the reader kept it."""
    kept = {**reader.harvest, **reader.end_to_end.inputs}
    return {site: kept[name] for site in reader.sites() if (name := reader.input_of(site)) in kept}


def probed(
    x: Float[np.ndarray, "token channel"], at: Integer[np.ndarray, " token"], truth: Truth
) -> Ceiling:
    """Fit and score probes of the channels, given on the tokens `at`."""
    half, document = truth.half[at], truth.document[at]
    in_a = np.unique(document[half == 0])
    if len(in_a) < 2:
        raise NoValue("half A has too few documents to tune a probe on")
    dev = (half == 0) & np.isin(document, in_a[DEV - 1 :: DEV] if len(in_a) >= DEV else in_a[-1:])
    fitted = (half == 0) & ~dev
    x = x.astype(np.float32)
    mean, spread = x[fitted].mean(0), x[fitted].std(0)
    x, y = (x - mean) / np.maximum(spread, 1e-6), truth.holds[at]
    logits = [_logits(x, y, fitted, penalty) for penalty in PENALTIES]
    return _scored(np.stack(logits), y, dev, half == 1)


def _logits(
    x: np.ndarray, y: np.ndarray, fitted: np.ndarray, penalty: float
) -> Float[np.ndarray, "token label"]:
    target = torch.from_numpy(y[fitted]).float()
    w = fit_many(torch.from_numpy(x[fitted]), target, penalty=penalty, steps=60).numpy()
    return x @ w[:-1] + w[-1]


def _scored(
    logits: Float[np.ndarray, "penalty token label"],
    y: Bool[np.ndarray, "token label"],
    dev: np.ndarray,
    b: np.ndarray,
) -> Ceiling:
    found = np.full((4, y.shape[1]), np.nan)
    for label in range(y.shape[1]):
        held = y[dev, label]
        bars = [best_bar(one[dev, label], held) for one in logits]
        best = int(np.argmax([reached for _, reached in bars]))
        score, truth = logits[best, b, label], y[b, label]
        said = score >= bars[best][0]
        found[0, label] = f1((said & truth).sum(), said.sum(), truth.sum())
        if 0 < truth.sum() < len(truth):
            evenly = score >= balanced_bar(logits[best, dev, label], held)
            found[1:, label] = (
                auroc(score, truth),
                auprc(score, truth),
                balanced_accuracy(evenly, truth),
            )
    return Ceiling(*found)


def _documents(truth: Truth, seed: int) -> np.ndarray:
    """Documents of both halves, drawn in turn until there are enough tokens of each."""
    documents, first, lengths = np.unique(truth.document, return_index=True, return_counts=True)
    order, chosen = np.random.default_rng(seed).permutation(len(documents)), []
    in_a = truth.is_a[first]
    for side in (in_a, ~in_a):
        drawn = order[side[order]]
        enough = np.searchsorted(np.cumsum(lengths[drawn]), TOKENS // 2) + 1
        chosen.append(documents[drawn[:enough]])
    return np.concatenate(chosen)
