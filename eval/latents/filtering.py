"""What a perfect reader of the `latent` corpus knows after each token: exact forward filtering.

The belief over joint states is held whole and moved one axis at a time, because the automata are
independent; a token costs (joint states) x (states of all automata) products.

Source: Rabiner, "A tutorial on hidden Markov models" (1989), eq. 19-20, on a product of chains.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Integer

from pellucid.data.latent_process import Process

DOCUMENTS = 4
"""Documents filtered at once: more do not fit the processor's caches."""


class Filtered(NamedTuple):
    """What was known while reading."""

    bits: Float64[np.ndarray, "document token"]
    """-log2 of the probability of each symbol, given those before it in its document"""
    beliefs: tuple[Float64[np.ndarray, "document token state"], ...]
    """for each automaton, the probability of each state given the symbols up to the token's own"""
    error: float | None
    """error of the mean bits per token; None where the numbers are exact"""


class Filter:
    """The steps of exact filtering on beliefs `(document, *states)`."""

    def __init__(self, process: Process, dtype: type = np.float64) -> None:
        self.process, self.dtype = process, dtype
        self.moves = tuple(automaton.move.astype(dtype) for automaton in process.automata)
        self.emission = process.emission.astype(dtype)

    def start(self, documents: int) -> Float[np.ndarray, "document ..."]:
        """What is believed of the first token before it is read."""
        belief = np.ones((documents,))
        for automaton in self.process.automata:
            belief = belief[..., None] * automaton.start
        return belief.astype(self.dtype)

    def move(self, belief: Float[np.ndarray, "document ..."]) -> Float[np.ndarray, "document ..."]:
        """What is believed of the next token, given what is believed of this one."""
        for move in self.moves:
            # Each product takes the first axis of states and puts the moved one last.
            belief = np.tensordot(belief, move, axes=(1, 0))
        return belief

    def hear(
        self,
        belief: Float[np.ndarray, "document ..."],
        symbols: Integer[np.ndarray, " document"],
    ) -> tuple[Float[np.ndarray, "document ..."], Float[np.ndarray, " document"]]:
        """The belief after a symbol, and the probability that the symbol had."""
        joint = belief * self.emission[symbols]
        heard = joint.reshape(len(joint), -1).sum(1)
        if not heard.all():
            raise ValueError("a symbol was read that the process cannot say there")
        return joint / heard.reshape(-1, *[1] * (joint.ndim - 1)), heard

    def predict(
        self, belief: Float[np.ndarray, "document ..."]
    ) -> Float[np.ndarray, "document symbol"]:
        """The distribution of the symbol that a belief about its states gives."""
        emission = self.emission.reshape(self.process.n_symbols, -1)
        return belief.reshape(len(belief), -1) @ emission.T

    def marginals(
        self, belief: Float[np.ndarray, "document ..."]
    ) -> list[Float[np.ndarray, "document state"]]:
        """What is believed of each automaton. The sums over each half of the axes are made once."""
        documents, sizes = len(belief), self.process.sizes
        half = len(sizes) // 2
        split = belief.reshape(documents, math.prod(sizes[:half]), -1)
        ones = [np.ones(size, dtype=self.dtype) for size in split.shape[1:]]
        first = (split @ ones[1]).reshape(documents, *sizes[:half])
        last = (ones[0] @ split).reshape(documents, *sizes[half:])
        return [_one_axis(part, axis) for part in (first, last) for axis in range(1, part.ndim)]


def _one_axis(part: np.ndarray, axis: int) -> np.ndarray:
    return part.sum(tuple(other for other in range(1, part.ndim) if other != axis))


def filtered(
    process: Process, symbols: Integer[np.ndarray, "document token"], *, dtype: type = np.float64
) -> Filtered:
    """Exact bits and beliefs of documents of equal length, computed in `dtype`."""
    documents, length = symbols.shape
    bits = np.empty((documents, length))
    beliefs = tuple(np.empty((documents, length, size)) for size in process.sizes)
    steps = Filter(process, dtype)
    for first in range(0, documents, DOCUMENTS):
        read = symbols[first : first + DOCUMENTS]
        rows = slice(first, first + len(read))
        belief = steps.start(len(read))
        for token in range(length):
            belief, heard = steps.hear(steps.move(belief) if token else belief, read[:, token])
            bits[rows, token] = -np.log2(heard)
            for kept, marginal in zip(beliefs, steps.marginals(belief), strict=True):
                kept[rows, token] = marginal
    return Filtered(bits, beliefs, None)


def counterfactual(
    process: Process,
    symbols: Integer[np.ndarray, " token"],
    *,
    latent: int,
    state: int,
    position: int,
) -> Float64[np.ndarray, "later symbol"]:
    """The true distributions of the next symbol after `position` and after each later token, had
    automaton `latent` been put into `state` at `position`.

    An intervention do(latent=state), not an observation: what was believed of the other automata
    stays as it was, and the tokens that follow are read in the world where it happened. The first
    row predicts the symbol at `position` + 1; the last one that after the end of `symbols`.
    """
    steps = Filter(process)
    belief = steps.start(1)
    rows = []
    for token, symbol in enumerate(symbols):
        belief, _ = steps.hear(belief, np.array([symbol]))
        if token == position:
            belief = put(belief, latent, state)
        belief = steps.move(belief)
        if token >= position:
            rows.append(steps.predict(belief)[0])
    return np.array(rows)


def put(
    belief: Float[np.ndarray, "document ..."], latent: int, state: int
) -> Float[np.ndarray, "document ..."]:
    """The belief after do(latent=state): that axis forgotten, then all of it in one state."""
    forgotten = belief.sum(latent + 1)
    done = np.zeros_like(belief)
    at = [slice(None)] * belief.ndim
    at[latent + 1] = state
    done[tuple(at)] = forgotten
    return done
