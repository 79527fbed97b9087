"""One-to-one matching of latents to units: the assignment that makes the sum of similarities largest.

Source: Kuhn's assignment problem by shortest augmenting paths (Jonker & Volgenant, 1987).
"""

import numpy as np
from jaxtyping import Float, Int64


def assignment(gain: Float[np.ndarray, "label unit"]) -> Int64[np.ndarray, " label"]:
    """The unit of each label, no unit twice, that maximizes the summed gain.

    Where there are fewer units than labels, labels that get none hold -1.
    """
    labels, units = gain.shape
    cost = -np.pad(gain, ((0, 0), (0, max(0, labels - units))))
    # Column 0 is a place where each search starts; matched[c] is the label of column c - 1.
    price = np.zeros(cost.shape[1] + 1)
    debt = np.zeros(labels + 1)
    matched = np.full(cost.shape[1] + 1, -1)
    for label in range(labels):
        _augment(cost, label, price, debt, matched)
    found = np.full(labels, -1)
    taken = np.flatnonzero(matched[1:] >= 0)
    found[matched[1:][taken]] = taken
    return np.where(found < units, found, -1)


def _augment(
    cost: np.ndarray, label: int, price: np.ndarray, debt: np.ndarray, matched: np.ndarray
) -> None:
    """Match one more label along the cheapest path of swaps; prices keep reduced costs at least 0."""
    matched[0], here = label, 0
    reach = np.full(len(price), np.inf)
    came = np.zeros(len(price), dtype=np.int64)
    done = np.zeros(len(price), dtype=bool)
    while matched[here] >= 0:
        done[here] = True
        row = matched[here]
        reduced = cost[row] - debt[row] - price[1:]
        better = ~done[1:] & (reduced < reach[1:])
        reach[1:][better], came[1:][better] = reduced[better], here
        free = np.where(done, np.inf, reach)
        free[0] = np.inf
        following = int(free.argmin())
        step = free[following]
        debt[matched[done]] += step
        price[done] -= step
        reach[~done] -= step
        here = following
    while here:
        matched[here] = matched[came[here]]
        here = came[here]
    matched[0] = -1
