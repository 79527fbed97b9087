"""Mean F1 over labels, with its interval over the documents of half B.

Settings were chosen on half A: the interval says how the score of what was chosen would vary with
the documents it is scored on, not how the choice would.
"""

import numpy as np
from jaxtyping import Float

from pellucid.eval import bootstrap
from pellucid.eval.bootstrap import Interval, effective, expanded_tail
from pellucid.eval.concepts.picks import f1
from pellucid.eval.concepts.truth import Counts
from pellucid.eval.score import NO_INTERVAL


def f1s(table: Counts) -> Float[np.ndarray, " label"]:
    """F1 of each label over all documents."""
    hits, said, held = table.sum(0).T
    return f1(hits, said, held)


def mean_f1(table: Counts, *, seed: int) -> Interval:
    """The mean over labels, and its 95 % interval by drawing documents again."""
    n, value = len(table), float(f1s(table).mean())
    if n < bootstrap.FEWEST:
        reason = f"{n} documents of half B are too few to resample; {bootstrap.FEWEST} are needed"
        return Interval(value, None, None, n, (NO_INTERVAL + reason,))
    rng, tail = np.random.default_rng(seed), expanded_tail(effective(table.sum((1, 2))))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=bootstrap.DRAWS).astype(np.float64)
    hits, said, held = (weights @ table[..., i] for i in range(3))
    # A label that no drawn document has is left out of that draw.
    drawn = np.ma.masked_array(f1(hits, said, held), held == 0).mean(1).filled(0.0)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)
