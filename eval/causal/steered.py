"""How well one push of a model steers it to a label: success x fluency x specificity."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pellucid.eval.causal.realising import log_odds, without

LEAST = 1e-6
"""Change of log-odds, in nats, below which nothing was steered."""


class Steered(NamedTuple):
    """Each from 0 to 1, and their harmonic mean (as in AxBench, arXiv 2501.17148)."""

    success: float
    fluency: float
    specificity: float

    @property
    def score(self) -> float:
        """The harmonic mean: 0 where any of the three is."""
        return 3 / sum(1 / part for part in self) if min(self) > 0 else 0.0


NOTHING = Steered(0.0, 0.0, 0.0)


def steered(
    before: Float[Tensor, "prompt vocab"],
    after: Float[Tensor, "prompt vocab"],
    judge: Float[Tensor, "prompt vocab"],
    realising: Bool[Tensor, "label vocab"],
    label: int,
) -> Steered:
    """Compare next-token log-probabilities before and after a push towards a label.

    `judge` holds an independent model's. The success is the share of the way from the prompts' mean
    log-odds to certainty, as a probability. Fluency and specificity look at the tokens that do not
    realise the label, among themselves: a push that works must take from all of those.
    """
    on = realising[label]
    shift = float((log_odds(after, on) - log_odds(before, on)).mean())
    if shift < LEAST:
        return NOTHING
    start, end = (log_odds(p, on).mean().sigmoid() for p in (before, after))
    success = float((end - start) / (1 - start).clamp(min=LEAST))
    rest_before, rest_after = without(before, on), without(after, on)
    extra = _judged(rest_after, judge) - _judged(rest_before, judge)
    fluency = float(torch.exp(-extra.clamp(min=0)))
    moved = [_moved(rest_before, rest_after, other & ~on) for other in realising]
    others = [m for i, m in enumerate(moved) if i != label and m is not None]
    strayed = sum(others) / len(others) if others else 0.0
    return Steered(min(success, 1.0), fluency, max(0.0, 1 - strayed / shift))


def _judged(log_p: Tensor, judge: Tensor) -> Tensor:
    """Expected cost of what is said under the judge, in nats a token: no sampling noise."""
    p = log_p.exp()
    return -(p * torch.where(p > 0, judge, 0)).sum(1).mean()


def _moved(before: Tensor, after: Tensor, on: Tensor) -> float | None:
    """Mean absolute change of the log-odds of some tokens; None where there are none left."""
    # Tokens left out of both have no odds.
    live = before.isfinite().any(0)
    if not (on & live).any() or not (~on & live).any():
        return None
    return float((log_odds(after, on) - log_odds(before, on)).abs().mean())
