"""The independent automata behind the `latent` corpus: states, how they move, how often each holds.

All start from the distribution that their moves leave unchanged, so every token of a document is
distributed alike, and the share of tokens in each state is known before anything is drawn.
"""

import itertools
import string
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LATENTS = ("stack", "quote", "topic", "counter", "variable")
"""The automata of the corpus, in the order of its side channels and of the axes of its states."""


@dataclass(frozen=True)
class Automaton:
    """A Markov chain with named states: `move[a, b]` is the probability to go from a to b."""

    name: str
    states: tuple[str, ...]
    move: Float[np.ndarray, "state state"]
    start: Float[np.ndarray, " state"]
    """the stationary distribution, from which a document starts"""

    @property
    def size(self) -> int:
        return len(self.states)


def stack(kinds: int, depth: int, rate: float) -> Automaton:
    """A stack of brackets of `kinds` kinds, at most `depth` deep; states are its contents.

    Each kind is pushed with probability `rate`, the top popped with `rate`, where there is room or a
    top; so all contents are equally frequent.
    """
    letters = string.ascii_lowercase[:kinds]
    states = [
        "".join(content)
        for size in range(depth + 1)
        for content in itertools.product(letters, repeat=size)
    ]
    place = {content: number for number, content in enumerate(states)}
    move = np.zeros((len(states), len(states)))
    for content in states[1:]:
        below, here = place[content[:-1]], place[content]
        move[below, here] = move[here, below] = rate
    return _automaton("stack", states, _with_rest(move))


def quote(kinds: int, rate: float) -> Automaton:
    """No quotation, or one of `kinds` kinds: each opens, and an open one closes, at `rate`."""
    move = np.zeros((kinds + 1, kinds + 1))
    move[0, 1:] = move[1:, 0] = rate
    return _automaton("quote", ["none", *string.ascii_lowercase[:kinds]], _with_rest(move))


def topic(n: int, rate: float) -> Automaton:
    """One of n topics, which changes at `rate` to any of the others."""
    move = np.full((n, n), rate / (n - 1))
    np.fill_diagonal(move, 1 - rate)
    return _automaton("topic", map(str, range(n)), move)


def counter(modulus: int, rate: float) -> Automaton:
    """Counts tokens modulo `modulus`; with probability `rate` a token is not counted."""
    move = (1 - rate) * np.roll(np.eye(modulus), 1, axis=1) + rate * np.eye(modulus)
    return _automaton("counter", map(str, range(modulus)), move)


def variable(slots: int, values: int, rate: float) -> Automaton:
    """Which of n slots was last assigned, and which value it got: drawn anew at `rate`."""
    states = [f"{slot}={value}" for slot in range(slots) for value in range(values)]
    move = np.full((len(states), len(states)), rate / len(states)) + (1 - rate) * np.eye(
        len(states)
    )
    return _automaton("variable", states, move)


def _automaton(name: str, states, move: np.ndarray) -> Automaton:
    """All the chains here are doubly stochastic: their stationary distribution is the uniform one."""
    states = tuple(states)
    return Automaton(name, states, move, np.full(len(states), 1 / len(states)))


def _with_rest(move: np.ndarray) -> np.ndarray:
    """The moves with the probability that is left to stay."""
    return move + np.diag(1 - move.sum(1))
