"""Coverage on ambiguous tokens: those whose own token leaves the label open."""

import numpy as np
from jaxtyping import Bool, Integer

from pellucid.eval.concepts.compared import thresholds_of
from pellucid.eval.concepts.counts import count
from pellucid.eval.concepts.picks import best, f1, fires
from pellucid.eval.concepts.truth import FEWEST, Truth
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue


def on_open_tokens(
    harvest: Harvest, truth: Truth, is_open: Bool[np.ndarray, "token label"]
) -> Integer[np.ndarray, "document kept 3"]:
    """How the settings do that are best on the open tokens of A, on those of B.

    Labels with too few open tokens either way are left out; NoValue where all are.
    """
    held, free = truth.holds & is_open, ~truth.holds & is_open
    few = [part[at].sum(0) >= FEWEST for part in (held, free) for at in (truth.a, truth.b)]
    kept = np.flatnonzero(np.all(few, axis=0))
    if len(kept) == 0:
        raise NoValue("the current token leaves no label open on enough tokens")
    held, is_open = held[:, kept], is_open[:, kept]
    thresholds = thresholds_of(harvest, truth)
    half = np.where(truth.half == 0, 0, -1)
    columns = np.concatenate([held, is_open], axis=1)
    counts = count(harvest, thresholds, columns, half, n_halves=1)[0]
    hits, said = counts[..., : len(kept)], counts[..., len(kept) :]
    pick = best(f1(hits, said, held[truth.a].sum(0)), thresholds)
    part = Truth(tuple(truth.names[i] for i in kept), held, truth.known, truth.is_a, truth.document)
    return part.table(fires(harvest, pick) & is_open)
