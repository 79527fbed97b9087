"""Capability where perfection is known: how many bits more than the perfect reader a model pays."""

import numpy as np
from jaxtyping import Float

from pellucid.eval.bootstrap import Interval, ratio
from pellucid.eval.controls import NO_PASS, Found, System, under_controls
from pellucid.eval.latents.known import Known
from pellucid.eval.score import NoValue, Score
from pellucid.eval.workbench import Workbench


def regret(bench: Workbench) -> list[Score]:
    """Bits per symbol above the Bayes-optimal reader's, on the same held-out symbols; 0 is perfect."""
    known = bench.latents
    if isinstance(known, str):
        return under_controls(bench, "regret", _absent(known), better="lower", without=NO_PASS)

    def measure(system: System) -> Found:
        return {None: regret_of(known, system.end_to_end.bits, seed=bench.seed)}

    ngrams = {"bigram": 2, "kneser_ney_5gram": 5}
    references = {
        name: {None: regret_of(known, bench.ngram(order).bits, seed=bench.seed)}
        for name, order in ngrams.items()
    }
    said = {None: (*known.how, *bench.ngram_flags)}
    return under_controls(
        bench,
        "regret",
        measure,
        better="lower",
        without=NO_PASS,
        references=references,
        flags=said,
    )


def _absent(reason: str):
    def measure(system: System) -> Found:
        raise NoValue(reason)

    return measure


def regret_of(known: Known, bits: Float[np.ndarray, " token"], *, seed: int) -> Interval:
    """Mean bits of a reader less those of the perfect one, with an interval over documents.

    `bits[p]` is what the token after position p cost. Ends of text are not counted; what a reader
    pays on symbols because it held an end for possible is. A perfect reader that was estimated adds
    its own error to the interval.
    """
    # The symbol at position p is predicted at p - 1, where its document's eot or a symbol stands.
    paid = bits[np.flatnonzero(known.read) - 1].reshape(-1, known.length)
    best = known.reader.bits
    found = ratio((paid - best).sum(1), np.full(len(best), known.length), seed=seed)
    error = known.reader.error
    if error is None or found.low is None:
        return found
    below, above = (np.hypot(found.value - end, 1.96 * error) for end in (found.low, found.high))
    return found._replace(low=float(found.value - below), high=float(found.value + above))
