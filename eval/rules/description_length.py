"""Bits a token that it takes to write down what a layer's units do: which are active, how strongly.

E_t[log2 C(m, L0_t) + L0_t · b], with L0_t of m units active on token t and b bits for a magnitude.
A layer of few active units is short to write down, whatever its units mean.
"""

import numpy as np
from jaxtyping import Float, Integer

from pellucid.eval.bootstrap import Interval, ratio
from pellucid.eval.harvest import Harvest
from pellucid.eval.stream import Stream

MAGNITUDE_BITS = 7
"""As many as a rule's values have."""


def bits_of_set(n_units: int) -> Float[np.ndarray, " active"]:
    """log2 of the number of sets of 0, 1, …, `n_units` units."""
    k = np.arange(1, n_units + 1)
    return np.concatenate([[0.0], np.cumsum(np.log2((n_units - k + 1) / k))])


def bits_per_token(
    active: Integer[np.ndarray, " token"], n_units: int
) -> Float[np.ndarray, " token"]:
    """Bits of each token's active set and of its magnitudes."""
    return bits_of_set(n_units)[active] + MAGNITUDE_BITS * active


def description_length(kept: Harvest, stream: Stream, *, seed: int) -> Interval:
    """Mean bits a token, with its interval over documents."""
    bits = bits_per_token(kept.counts(0, kept.n_tokens), kept.n_units)
    return ratio(stream.per_document(bits), np.diff(stream.offsets), seed=seed)
