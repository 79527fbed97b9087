"""Endless seeded text whose latents are known at every token: the corpus `latent`.

Five independent automata (a bracket stack, a quotation, a topic, a counter, the variable that was
last assigned) speak in ambiguous symbols. What a perfect reader knows, and how well it predicts, can
be computed (`eval/latents`), and so can what it would predict had a latent been another.
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from pellucid.data import automata
from pellucid.data.documents import Document, LeftOut
from pellucid.data.latent_process import Process
from pellucid.errors import ConfigError
from pellucid.settings import fields
from pellucid.settings.fields import Configurable, setting

SYMBOLS = string.ascii_letters
"""What a symbol is written as: one letter after a space, which byte-level BPE makes one token."""
AT_ONCE = 64


class Latent(Configurable):
    """Generated documents with the state of every automaton as a side channel of its name."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        seed: int = setting(0, low=0)
        """Which text: the same seed gives the same documents on every machine."""
        language: int = setting(0, low=0)
        """Which tables of symbols: two corpora of one language differ only in their text."""
        n_documents: int = setting(4000, low=1)
        """How many documents."""
        length: int = setting(256, low=2)
        """Symbols of each document; each is one token."""
        n_symbols: int = setting(12, low=2, high=len(SYMBOLS))
        """Symbols that all automata share; the fewer, the less one says."""
        noise: float = setting(0.05, low=0.0, below=1.0)
        """Share of tokens that are any symbol at all."""
        brackets: int = setting(2, low=1, high=8)
        """Kinds of brackets on the stack."""
        depth: int = setting(2, low=1, high=8)
        """Brackets that the stack holds at most."""
        bracket_rate: float = setting(0.02, above=0.0)
        """Probability at each token to push one of each kind, and to pop."""
        quotes: int = setting(7, low=1, high=25)
        """Kinds of quotation."""
        quote_rate: float = setting(0.01, above=0.0)
        """Probability at each token to open one of each kind, and to close an open one."""
        topics: int = setting(8, low=2)
        """Topics."""
        topic_rate: float = setting(0.01, above=0.0, high=1.0)
        """Probability at each token that the topic changes."""
        modulus: int = setting(8, low=2)
        """The counter counts tokens modulo this."""
        slip_rate: float = setting(0.01, low=0.0, high=1.0)
        """Share of tokens that the counter does not count."""
        slots: int = setting(4, low=1)
        """Variables."""
        values: int = setting(2, low=1)
        """Values that a variable may get."""
        assign_rate: float = setting(0.03, above=0.0, high=1.0)
        """Probability at each token that a variable is assigned."""

        def check(self) -> None:
            pushes, opens = (self.brackets + 1) * self.bracket_rate, self.quotes * self.quote_rate
            if pushes > 1:
                raise ConfigError(
                    f"bracket_rate is {self.bracket_rate}; with {self.brackets} kinds at most "
                    f"{1 / (self.brackets + 1):g} is accepted"
                )
            if opens > 1:
                raise ConfigError(
                    f"quote_rate is {self.quote_rate}; with {self.quotes} kinds at most "
                    f"{1 / self.quotes:g} is accepted"
                )
            contents = sum(self.brackets**size for size in range(self.depth + 1))
            sizes = {
                "brackets, depth": contents,
                "quotes": self.quotes + 1,
                "topics": self.topics,
                "modulus": self.modulus,
                "slots, values": self.slots * self.values,
            }
            for names, size in sizes.items():
                if size > self.n_symbols:
                    raise ConfigError(
                        f"{names}: {size} states are more than n_symbols, {self.n_symbols}; an "
                        "automaton may have as many states as there are symbols"
                    )

        def automata(self) -> tuple[automata.Automaton, ...]:
            """The automata, in the order of `LATENTS`."""
            return (
                automata.stack(self.brackets, self.depth, self.bracket_rate),
                automata.quote(self.quotes, self.quote_rate),
                automata.topic(self.topics, self.topic_rate),
                automata.counter(self.modulus, self.slip_rate),
                automata.variable(self.slots, self.values, self.assign_rate),
            )

        def process(self) -> Process:
            """What generates the tokens, exactly."""
            tables = {"n_symbols": self.n_symbols, "noise": self.noise, "seed": self.language}
            return Process.of(self.automata(), **tables)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.side_channels = automata.LATENTS
        self.left_out = LeftOut()

    def listing(self) -> list[str]:
        return []

    def documents(self) -> Iterator[Document]:
        process, count = self.config.process(), self.config.n_documents
        for first in range(0, count, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, count))
            states, symbols = process.draw(np.stack([self._draws(number) for number in numbers]))
            for number, state, symbol in zip(numbers, states, symbols, strict=True):
                # A state stands beside both bytes of its symbol, the space and the letter.
                side = dict(zip(self.side_channels, state.repeat(2, axis=0).T, strict=True))
                name = f"document_{number:06d}"
                yield Document(name, name, written(symbol), side)

    def _draws(self, number: int) -> Float64[np.ndarray, "token draw"]:
        """A document's numbers in [0, 1), whatever other documents there are."""
        generator = np.random.Generator(np.random.PCG64([self.config.seed, number]))
        return generator.random((self.config.length, len(self.side_channels) + 2))


def written(symbols: np.ndarray) -> str:
    """Symbols as text."""
    return "".join(f" {SYMBOLS[symbol]}" for symbol in symbols)


def symbol_of_token(token_bytes: list[bytes]) -> np.ndarray:
    """The symbol of each token of a vocabulary (token,), int64; -1 for tokens that are none."""
    known = {f" {letter}".encode(): number for number, letter in enumerate(SYMBOLS)}
    return np.array([known.get(raw, -1) for raw in token_bytes], dtype=np.int64)
