"""Text whose labels are known, and units of known worth on it, for metrics of units and labels."""

from typing import NamedTuple

import numpy as np

from pellucid.eval.concepts.truth import Truth
from pellucid.eval.harvest import Harvest, harvested

VOCAB, DOCUMENTS, LENGTH, LATENTS = 32, 40, 250, 16


class Plant(NamedTuple):
    """Tokens, and latents that they only hint at."""

    tokens: np.ndarray
    document: np.ndarray
    truth: Truth

    @property
    def latents(self) -> np.ndarray:
        return self.truth.holds.astype(np.float32)


def plant(seed: int = 0) -> Plant:
    """Latents that switch at random and stay; each token hints at one of them, ambiguously."""
    rng = np.random.default_rng(seed)
    n = DOCUMENTS * LENGTH
    document = np.repeat(np.arange(DOCUMENTS), LENGTH)
    holds = np.stack([_switching(rng, n, 0.03, 0.06 + 0.005 * i) for i in range(LATENTS)], axis=1)
    about = rng.integers(0, LATENTS, n)
    told = holds[np.arange(n), about] ^ (rng.random(n) < 0.3)
    names = tuple(f"latent_{i}" for i in range(LATENTS))
    known = np.ones(n, dtype=bool)
    return Plant(
        2 * about + told, document, Truth(names, holds, known, document % 2 == 0, document)
    )


def _switching(rng: np.random.Generator, n: int, on: float, off: float) -> np.ndarray:
    state, found = False, np.zeros(n, dtype=bool)
    for i, draw in enumerate(rng.random(n)):
        state = draw >= off if state else draw < on
        found[i] = state
    return found


def rotated(values: np.ndarray, seed: int = 1) -> np.ndarray:
    """The same space in another basis: every unit has an equal part in each of 16 latents."""
    turn = np.ones((1, 1))
    for _ in range(4):
        turn = np.block([[turn, turn], [turn, -turn]])
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], len(turn))
    return (values @ (turn * signs / 4)).astype(np.float32)


def strengths(holds: np.ndarray, seed: int = 2) -> np.ndarray:
    """Units that are on where a latent holds, as strongly as it comes."""
    rng = np.random.default_rng(seed)
    return np.where(holds, rng.uniform(0.5, 1.5, holds.shape), 0).astype(np.float32)


def by_token(tokens: np.ndarray, units: int = VOCAB) -> np.ndarray:
    """A unit for each token: token-only units."""
    return (tokens[:, None] == np.arange(units)).astype(np.float32)


def by_frequency(n: int, units: int = 8, seed: int = 3) -> np.ndarray:
    """Units that fire often, and at random."""
    rng = np.random.default_rng(seed)
    return (rng.random((n, units)) < np.linspace(0.05, 0.95, units)).astype(np.float32)


class System(NamedTuple):
    """Harvests by site, as a reader has them."""

    harvest: dict[str, Harvest]


def system(values: np.ndarray, *, signed: bool = False) -> System:
    """One site, called `site`, whose units have these values."""
    return System(harvested({"site": values.astype(np.float32)}, signed=signed))
