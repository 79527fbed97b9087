"""What is known of a stream of the `latent` corpus: the latents of each token, and a perfect reader.

Positions are those of the stream. An end of text is no symbol: its latents are -1.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from pellucid.data.automata import LATENTS
from pellucid.data.config import DataConfig
from pellucid.data.latent import Latent, symbol_of_token
from pellucid.data.latent_process import Process
from pellucid.errors import DataError
from pellucid.eval.latents.filtering import Filtered, filtered
from pellucid.eval.latents.particles import FILTERS, PARTICLES, guessed
from pellucid.eval.stream import Stream
from pellucid.settings import fields

if TYPE_CHECKING:
    from pellucid.data.store import TokenData

EXACT_STATES = 2**16
"""Joint states up to which beliefs are computed exactly."""
READ_TOKENS, GUESSED_TOKENS = 2**14, 2**10
"""Symbols that the perfect reader reads at most, exactly (about 0.3 ms each with the corpus as it
comes) and by particles."""
OTHER_CORPUS = "the corpus is not `latent`, the one whose latents are known"


@dataclass(frozen=True)
class Known:
    """The truth about a stream, document by document of equal length."""

    process: Process
    symbols: Int64[np.ndarray, " token"]
    """-1 at the ends of text"""
    states: Integer[np.ndarray, "token latent"]
    seed: int = 0

    @property
    def is_symbol(self) -> Bool[np.ndarray, " token"]:
        return self.symbols >= 0

    @property
    def length(self) -> int:
        """Symbols of each document."""
        ends = np.flatnonzero(~self.is_symbol)
        return int(np.diff(np.append(ends, len(self.symbols)))[0]) - 1

    @cached_property
    def read(self) -> Bool[np.ndarray, " token"]:
        """The positions that the perfect reader reads: the symbols of the first documents."""
        most = READ_TOKENS if self.is_exact else GUESSED_TOKENS
        documents = max(1, most // self.length)
        first = np.arange(len(self.symbols)) < documents * (self.length + 1)
        return self.is_symbol & first

    @property
    def is_exact(self) -> bool:
        return self.process.n_states <= EXACT_STATES

    @cached_property
    def reader(self) -> Filtered:
        """Bits and beliefs of a perfect reader, `(document, token, …)`, over `read`."""
        symbols = self.symbols[self.read].reshape(-1, self.length)
        if self.is_exact:
            return filtered(self.process, symbols, dtype=np.float32)
        return guessed(self.process, symbols, seed=self.seed)

    def beliefs(self, latent: int) -> Float64[np.ndarray, "read state"]:
        """What a perfect reader believes of an automaton, at each position of `read`."""
        belief = self.reader.beliefs[latent]
        return belief.reshape(-1, belief.shape[-1])

    @property
    def how(self) -> tuple[str, ...]:
        """Sentences that say how the perfect reader was computed."""
        count, size = int(self.read.sum()), self.process.n_states
        cut = (f"the perfect reader reads the first {count:,} symbols",)
        cut = cut if count < self.is_symbol.sum() else ()
        if self.is_exact:
            return (f"Bayes-optimal bits: exact, by filtering {size:,} joint states", *cut)
        return (
            f"Bayes-optimal bits: {FILTERS} filters of {PARTICLES} particles each, error "
            f"{self.reader.error:.2g} bits per token; {size:,} joint states are too many to hold",
            *cut,
        )


def known_of(data: "TokenData", split: str, stream: Stream, *, seed: int = 0) -> Known | str:
    """What is known of a stream drawn from a split; a sentence where the corpus is another one."""
    if data.manifest["config"]["corpus"]["type"] != "latent":
        return OTHER_CORPUS
    config: Latent.Config = fields.from_json(DataConfig, data.manifest["config"]).corpus
    symbols = symbol_of_token(data.tokenizer.token_bytes)[stream.tokens]
    if ((symbols < 0) != (stream.tokens == stream.eot)).any():
        raise DataError("the tokenizer does not give each symbol of the corpus a token of its own")
    source = data.split(split)
    place = {name: number for number, name in enumerate(source.names)}
    spans = [source.offsets[place[name] :][:2] for name in stream.names]
    states = [
        np.stack([source.side[name][first:last] for name in LATENTS], axis=1)
        for first, last in spans
    ]
    return Known(config.process(), symbols, np.concatenate(states), seed)
