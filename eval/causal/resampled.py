"""Intervals of any statistic of sums over documents, by resampling whole documents."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from pellucid.eval.bootstrap import DRAWS, FEWEST, Interval, effective, expanded_tail
from pellucid.eval.score import NO_INTERVAL, NO_VALUE

Statistic = Callable[[Float[np.ndarray, "draw *axes sum"]], Float[np.ndarray, " draw"]]


def over_documents(
    sums: Float[np.ndarray, "document *axes sum"],
    statistic: Statistic,
    *,
    seed: int,
    weights: Float[np.ndarray, " document"],
) -> Interval:
    """The statistic of the summed documents, and its interval; `weights` say how large each is.

    Documents of weight 0 do not count. The statistic is given sums with an axis of draws in front.
    """
    kept = weights > 0
    sums, weights = sums[kept], weights[kept]
    n = len(weights)
    value = float(statistic(sums.sum(0)[None])[0]) if n else np.nan
    if not np.isfinite(value):
        return Interval(None, None, None, n, (f"{NO_VALUE}{n} documents hold too little of it",))
    if n < FEWEST:
        flag = f"{NO_INTERVAL}{n} documents are too few to resample; {FEWEST} are needed"
        return Interval(value, None, None, n, (flag,))
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), DRAWS)
    flat = drawn @ sums.reshape(n, -1)
    found = statistic(flat.reshape(DRAWS, *sums.shape[1:]))
    tail = expanded_tail(effective(weights))
    low, high = np.quantile(found[np.isfinite(found)], [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)
