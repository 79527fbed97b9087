"""The process behind the `latent` corpus: independent automata that speak one symbol at a time.

At every token all automata move; then one of them, drawn evenly, speaks. What it says is looked up
by its own state and that of the next automaton in the row (the last one looks at the first), so a
symbol names no state of anything: a reader must put several tokens together.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64, Integer

from pellucid.data.automata import Automaton


class Put(NamedTuple):
    """An intervention: from a token on (1 or later), one automaton goes on from another state."""

    latent: int
    token: int
    state: Integer[np.ndarray, " document"]


@dataclass(frozen=True)
class Process:
    """Hidden Markov model over the product of `automata`, with `n_symbols` symbols.

    `code[k][a, b]` is the symbol that automaton k says in state a while the next one is in state b.
    With probability `noise` the symbol is instead any one, evenly.
    """

    automata: tuple[Automaton, ...]
    code: tuple[Integer[np.ndarray, "state next_state"], ...]
    n_symbols: int
    noise: float

    @classmethod
    def of(cls, automata: tuple[Automaton, ...], *, n_symbols: int, noise: float, seed: int):
        """The process whose tables are drawn from `seed`: for each state of the next automaton an
        automaton says a different symbol in each state of its own."""
        generator = np.random.Generator(np.random.PCG64([seed, n_symbols]))
        order = lambda: generator.random(n_symbols).argsort(kind="stable")
        following = automata[1:] + automata[:1]
        code = tuple(
            np.stack([order()[: own.size] for _ in range(other.size)], axis=1)
            for own, other in zip(automata, following, strict=True)
        )
        return cls(automata, code, n_symbols, noise)

    @property
    def sizes(self) -> tuple[int, ...]:
        """States of each automaton: the axes of everything that is said of joint states."""
        return tuple(automaton.size for automaton in self.automata)

    @property
    def n_states(self) -> int:
        """Joint states."""
        return math.prod(self.sizes)

    def listener(self, speaker: int) -> int:
        """Whose state decides, beside the speaker's own, what it says."""
        return (speaker + 1) % len(self.automata)

    @cached_property
    def spoken(self) -> tuple[Float64[np.ndarray, "symbol state next_state"], ...]:
        """Probability of each symbol given the speaker, its state and the next one's."""
        symbols = np.arange(self.n_symbols)[:, None, None]
        sure = 1 - self.noise
        return tuple(sure * (table == symbols) + self.noise / self.n_symbols for table in self.code)

    @cached_property
    def emission(self) -> Float64[np.ndarray, "symbol ..."]:
        """Probability of each symbol in each joint state."""
        count = len(self.automata)
        total = np.zeros((self.n_symbols, *self.sizes))
        for speaker, table in enumerate(self.spoken):
            listener = self.listener(speaker)
            shape = [self.n_symbols] + [1] * count
            shape[1 + speaker], shape[1 + listener] = table.shape[1:]
            turned = table if speaker < listener else table.swapaxes(1, 2)
            total += turned.reshape(shape) / count
        return total

    def likelihood(
        self, states: Integer[np.ndarray, "... latent"], symbols: Integer[np.ndarray, "..."]
    ) -> Float64[np.ndarray, "..."]:
        """Probability of symbols in joint states (broadcast), without the table of all of them."""
        heard = [
            table[symbols, states[..., speaker], states[..., self.listener(speaker)]]
            for speaker, table in enumerate(self.spoken)
        ]
        return sum(heard) / len(heard)

    def symbol_and_state(self, latent: int) -> Float64[np.ndarray, "symbol state"]:
        """Joint probability of a token's symbol and an automaton's state, on any token."""
        start = [automaton.start for automaton in self.automata]
        total = np.zeros((self.n_symbols, self.sizes[latent]))
        for speaker, table in enumerate(self.spoken):
            listener = self.listener(speaker)
            joint = table * start[speaker][:, None] * start[listener]
            if latent == speaker:
                total += joint.sum(2)
            elif latent == listener:
                total += joint.sum(1)
            else:
                total += joint.sum((1, 2))[:, None] * start[latent]
        return total / len(self.automata)

    def draw(
        self, uniform: Float[np.ndarray, "document token draw"], put: Put | None = None
    ) -> tuple[Int32[np.ndarray, "document token latent"], Int64[np.ndarray, "document token"]]:
        """States and symbols from numbers in [0, 1): for each token one for every automaton's move,
        one for the speaker and one for the noise. An automaton may be `put` into another state."""
        documents, length, draws = uniform.shape
        count = len(self.automata)
        if draws != count + 2:
            raise ValueError(f"draw needs {count + 2} numbers for each token, got {draws}")
        states = np.empty((documents, length, count), dtype=np.int32)
        for latent, automaton in enumerate(self.automata):
            moves = cumulative(automaton.move)
            states[:, 0, latent] = np.searchsorted(
                cumulative(automaton.start), uniform[:, 0, latent], side="right"
            )
            for token in range(1, length):
                rows = moves[states[:, token - 1, latent]]
                states[:, token, latent] = (uniform[:, token, latent, None] >= rows).sum(1)
                if put and (put.latent, put.token) == (latent, token):
                    states[:, token, latent] = put.state
        return states, self._speak(states, uniform[..., count], uniform[..., count + 1])

    def _speak(self, states: np.ndarray, who: np.ndarray, noise: np.ndarray) -> np.ndarray:
        speaker = (who * len(self.automata)).astype(np.int64)
        said = np.stack(
            [
                table[states[..., k], states[..., self.listener(k)]]
                for k, table in enumerate(self.code)
            ],
            axis=-1,
        )
        symbols = np.take_along_axis(said, speaker[..., None], -1)[..., 0]
        # What is left of a number below `noise` is again even between 0 and 1.
        other = (noise / max(self.noise, 1e-300) * self.n_symbols).clip(0, self.n_symbols - 1)
        return np.where(noise < self.noise, other.astype(np.int64), symbols)


def cumulative(probabilities: np.ndarray) -> np.ndarray:
    """Upper ends of the intervals of [0, 1) that lead to each state, the last one exactly 1."""
    ends = probabilities.cumsum(-1)
    ends[..., -1] = 1.0
    return ends


def token_only_f1(process: Process, latent: int) -> Float64[np.ndarray, " state"]:
    """The best F1 that any function of the current symbol has for each state of an automaton.

    Exact: the sets that maximize F1 hold the symbols after which the state is likeliest.
    """
    joint = process.symbol_and_state(latent)
    seen = joint.sum(1)
    best = []
    for held in joint.T:
        order = np.argsort(-held / seen, kind="stable")
        true, claimed = held[order].cumsum(), seen[order].cumsum()
        best.append((2 * true / (claimed + held.sum())).max())
    return np.array(best)
