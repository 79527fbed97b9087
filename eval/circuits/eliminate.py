"""Leaving out as much as can go together, by tries on ever smaller sets."""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor


def eliminate(
    order: Int[Tensor, " edge"], fits: Callable[[Tensor], bool], tries: int
) -> Int[Tensor, " gone"]:
    """Which of a list can go, tried from its front; `fits(gone)` says whether so many may.

    A set that cannot go as a whole is tried by halves, so that many go in few tries. What is left
    when the tries are used up stays.
    """
    gone = order[:0]
    waiting = [order] if len(order) else []
    while waiting and tries > 0:
        some = waiting.pop()
        both = torch.cat([gone, some])
        tries -= 1
        if fits(both):
            gone = both
        elif len(some) > 1:
            waiting += [some[len(some) // 2 :], some[: len(some) // 2]]
    return gone


def shortest(order: Int[Tensor, " edge"], fits: Callable[[Tensor], bool]) -> Int[Tensor, " kept"]:
    """The first of a ranking, as few as fit, by bisection; else all. `fits(kept)` is as above."""
    low, high = -1, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(order[:middle]) else (middle, high)
    return order[:high]


def leaner(
    kept: Int[Tensor, " kept"], fits: Callable[[Tensor], bool], tries: int
) -> Int[Tensor, " left"]:
    """Without those that can go as well, the lowest ranks first, until none can.

    So many tries are made in each round.
    """

    def without(gone: Tensor) -> Tensor:
        return kept[~torch.isin(kept, gone)]

    # What was needed may be spared once others have gone.
    while len(gone := eliminate(kept.flip(0), lambda gone: fits(without(gone)), tries)):
        kept = without(gone)
    return kept
