"""How much of the logits flows through units directly, and what is predicted without the rest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from pellucid.eval.bootstrap import Interval
from pellucid.eval.causal.passes import Rows, nats, rows_of
from pellucid.eval.causal.resampled import over_documents
from pellucid.eval.causal.through_units import Split, Splitter
from pellucid.eval.controls import NO_PASS, Found, System, under_controls
from pellucid.eval.halves import halves
from pellucid.eval.score import Score
from pellucid.eval.still import said_of_all
from pellucid.eval.workbench import Workbench

TOKENS = 4096
"""Tokens of half B that are split, and of half A that means are taken of."""
MEAN, ZERO = "cross_entropy_through_units_mean", "cross_entropy_through_units_zero"
WHOLE = "ceiling_whole_logits"
"""What stands beside these: the run's own cross-entropy on the same tokens."""


@dataclass(frozen=True)
class Texts:
    """Rows of both halves."""

    a: Rows
    b: Rows
    seed: int

    @classmethod
    def of(cls, bench: Workbench, tokens: int = TOKENS) -> "Texts":
        half = np.where(halves(bench.stream, bench.seed), 0, 1)
        about = {"context": bench.reader.context, "tokens": tokens, "seed": bench.seed}
        a, b = (rows_of(bench.stream, half, which=which, **about) for which in (0, 1))
        return cls(a, b, bench.seed)


class Baselines(NamedTuple):
    """Means over half A, `(vocab,)`: what is the same at every token explains none of them."""

    logits: Tensor
    parts: dict[str, Tensor]


def logit_share(bench: Workbench) -> list[Score]:
    """Share of the logits through all units, and through those of each site."""
    return _scores(bench, "logit_share", {})


def cross_entropy_through_units_mean(bench: Workbench) -> list[Score]:
    """Cross-entropy where what flows past units is held at its mean."""
    return _cross_entropy(bench, MEAN)


def cross_entropy_through_units_zero(bench: Workbench) -> list[Score]:
    """Cross-entropy of what flows through units alone."""
    return _cross_entropy(bench, ZERO)


def _cross_entropy(bench: Workbench, metric: str) -> list[Score]:
    whole = whole_cross_entropy(bench.reader, Texts.of(bench))
    return _scores(bench, metric, {WHOLE: {None: whole}})


def _scores(bench: Workbench, metric: str, references: Mapping[str, Found]) -> list[Score]:
    texts = Texts.of(bench)
    scores = under_controls(
        bench,
        metric,
        lambda system: bench.once("logit_share", system, lambda s: measure(s, texts))[metric],
        better="higher" if metric == "logit_share" else "lower",
        without=NO_PASS,
        references=references,
        flags={None: said_of_all(bench.reader)},
    )
    return [replace(score, tokens=texts.b.tokens.numel()) for score in scores]


def measure(system: System, texts: Texts) -> dict[str, Found]:
    """Share by site and as a whole (None), and cross-entropy in nats without the rest.

    The share is 1 - ‖rest‖ / ‖logits‖, both centered over the vocabulary and around their means on
    half A. Of the cross-entropy, the rest is held at its mean on half A, or at 0.
    """
    splitter = Splitter(system.model, system.sites())
    base = baselines(splitter.split(texts.a), int(texts.a.scored.sum()))
    counted = texts.b.places[texts.b.scored]
    targets = torch.from_numpy(system.stream.targets()[counted])
    values = _by_token(splitter.split(texts.b), base, targets)
    document, n = system.stream.document[counted], system.stream.n_documents
    by_document = lambda value: np.bincount(document, value, n)
    sums = {name: np.stack([*map(by_document, two)], axis=1) for name, two in values.items()}
    share = lambda drawn: 1 - np.sqrt(drawn[:, 0] / drawn[:, 1])
    mean = lambda drawn: drawn[:, 0] / drawn[:, 1]
    held = np.bincount(document, minlength=n).astype(np.float64)
    about = {"seed": texts.seed, "weights": held}
    shares = {name: over_documents(sums[name], share, **about) for name in (None, *splitter.write)}
    found = {name: {None: over_documents(sums[name], mean, **about)} for name in (MEAN, ZERO)}
    return {"logit_share": shares, **found}


def whole_cross_entropy(system: System, texts: Texts) -> Interval:
    """What the whole logits cost on the same tokens."""
    cost, scored = nats(system.model, texts.b, system.stream), texts.b.scored
    document, n = system.stream.document[texts.b.places][scored], system.stream.n_documents
    held = np.bincount(document, minlength=n).astype(np.float64)
    sums = np.stack([np.bincount(document, cost[scored], n), held], axis=1)
    mean = lambda drawn: drawn[:, 0] / drawn[:, 1]
    return over_documents(sums, mean, seed=texts.seed, weights=held)


def baselines(splits: Iterable[Split], n: int) -> Baselines:
    """Means over the tokens that count, of which there are `n`."""
    logits, parts = 0.0, {}
    for split in splits:
        logits = logits + split.logits.sum(0)
        for name, part in split.parts:
            parts[name] = parts.get(name, 0.0) + part.sum(0)
    return Baselines(logits / n, {name: total / n for name, total in parts.items()})


def _by_token(
    splits: Iterable[Split], base: Baselines, targets: Integer[Tensor, " token"]
) -> dict[str | None, Float[np.ndarray, "two token"]]:
    """Of every token: squared rest and squared logits by site and as a whole; costs, and ones."""
    found = [_of_some(split, base, targets[split.at]) for split in splits]
    return {name: np.concatenate([some[name] for some in found], axis=1) for name in found[0]}


def _of_some(
    split: Split, base: Baselines, targets: Integer[Tensor, " token"]
) -> dict[str | None, Float[np.ndarray, "two token"]]:
    around = split.logits - base.logits
    squared = around.square().sum(-1)
    found, rest, through = {}, around.clone(), torch.zeros_like(around)
    for name, part in split.parts:
        moved = part - base.parts[name]
        found[name] = (around - moved).square().sum(-1), squared
        rest -= moved
        through += part
    found[None] = rest.square().sum(-1), squared
    kept = base.logits - sum(base.parts.values())
    for name, logits in ((MEAN, through + kept), (ZERO, through)):
        cost = F.cross_entropy(logits, targets.to(logits.device), reduction="none")
        found[name] = cost, torch.ones_like(cost)
    return {name: torch.stack(two).double().cpu().numpy() for name, two in found.items()}
