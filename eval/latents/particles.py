"""What a perfect reader knows where the product of states is too large to hold: a particle filter.

The bootstrap filter with systematic resampling. Its estimate of a document's likelihood has no bias,
that of the bits has one, upward: a model's regret is then stated too low, never too high. The error
that is reported holds both the spread of independent filters and what halving the particles changes,
twice: where particles are far too few the bias falls more slowly than they grow in number.

Source: Gordon, Salmond & Smith, "Novel approach to nonlinear/non-Gaussian Bayesian state
estimation" (1993); systematic resampling after Kitagawa (1996).
"""

import numpy as np
from jaxtyping import Float, Int32, Integer

from pellucid.data.automata import Automaton
from pellucid.data.latent_process import Process, cumulative
from pellucid.eval.latents.filtering import Filtered

PARTICLES = 4096
"""Guesses at the joint state that are carried along, for each document and filter."""
FILTERS = 4
"""Independent filters of the same documents, whose spread is the error."""


def guessed(
    process: Process,
    symbols: Integer[np.ndarray, "document token"],
    *,
    seed: int,
    particles: int = PARTICLES,
    filters: int = FILTERS,
) -> Filtered:
    """Estimated bits and beliefs of documents of equal length, with the error of the mean bits."""
    if filters < 2:
        raise ValueError(f"filters is {filters}; at least 2 are needed for an error")
    whole, half = (
        [
            _one_filter(process, symbols, count, np.random.default_rng([seed, count, number]))
            for number in range(filters)
        ]
        for count in (particles, max(1, particles // 2))
    )
    bits = np.mean([bits for bits, _ in whole], axis=0)
    beliefs = tuple(np.mean(kept, axis=0) for kept in zip(*(b for _, b in whole), strict=True))
    spread = np.std([bits.mean() for bits, _ in whole], ddof=1) / filters**0.5
    bias = np.mean([bits.mean() for bits, _ in half]) - bits.mean()
    return Filtered(bits, beliefs, float(np.hypot(spread, 2 * bias)))


def _one_filter(
    process: Process, symbols: np.ndarray, particles: int, generator: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    documents, length = symbols.shape
    bits = np.empty((documents, length))
    beliefs = [np.empty((documents, length, size)) for size in process.sizes]
    states = np.empty((documents, particles, len(process.automata)), dtype=np.int32)
    for token in range(length):
        for latent, automaton in enumerate(process.automata):
            before = states[..., latent] if token else None
            states[..., latent] = _moved(automaton, before, states.shape[:2], generator)
        weights = process.likelihood(states, symbols[:, token, None])
        heard = weights.mean(1)
        if not heard.all():
            raise ValueError(f"no particle explains token {token}: use more particles, or noise")
        bits[:, token] = -np.log2(heard)
        weights = weights / weights.sum(1, keepdims=True)
        for latent, kept in enumerate(beliefs):
            kept[:, token] = _shares(states[..., latent], weights, kept.shape[2])
        states = _resampled(states, weights, generator)
    return bits, beliefs


def _moved(
    automaton: Automaton,
    before: np.ndarray | None,
    shape: tuple[int, ...],
    generator: np.random.Generator,
) -> Integer[np.ndarray, "document particle"]:
    """Every particle's next state of one automaton, the first one where there was none before."""
    uniform = generator.random(shape)
    if before is None:
        return np.searchsorted(cumulative(automaton.start), uniform, side="right")
    return (uniform[..., None] >= cumulative(automaton.move)[before]).sum(-1)


def _shares(
    states: np.ndarray, weights: np.ndarray, size: int
) -> Float[np.ndarray, "document state"]:
    """Weight of each state over a document's particles."""
    rows = np.arange(len(states))[:, None] * size
    total = np.bincount((rows + states).ravel(), weights.ravel(), minlength=len(states) * size)
    return total.reshape(-1, size)


def _resampled(
    states: np.ndarray, weights: np.ndarray, generator: np.random.Generator
) -> Int32[np.ndarray, "document particle latent"]:
    """As many particles, each kept about as often as its weight says (one draw a document)."""
    documents, particles = weights.shape
    ends = weights.cumsum(1)
    ends[:, -1] = 1.0
    points = (np.arange(particles) + generator.random((documents, 1))) / particles
    chosen = [end.searchsorted(at, side="right") for end, at in zip(ends, points, strict=True)]
    chosen = np.minimum(chosen, particles - 1)
    return np.take_along_axis(states, chosen[..., None], axis=1)
