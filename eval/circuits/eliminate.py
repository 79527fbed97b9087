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
