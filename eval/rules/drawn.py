"""The places a rule of one unit is learned from: drawn by importance, weighted back to all."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.rules.rule import Scale
from pellucid.eval.rules.text import REACH, Text


@dataclass(frozen=True)
class Drawn:
    """Some places of half A and what the unit did there."""

    text: Text
    places: Integer[np.ndarray, " place"]
    values: Float[np.ndarray, " place"]
    """activation, in spreads from the mean"""
    weight: Float[np.ndarray, " place"]
    """tokens of half A that each place stands for"""
    checked: Bool[np.ndarray, " place"]
    """places that choose between rules; the others grow them"""
    symbols: Integer[np.ndarray, "offset place"]
    """token at each offset from 0 to 8"""
    _pairs: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    _counts: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    @cached_property
    def labels(self) -> Float[np.ndarray, "place label"]:
        """1 where a label holds; of a text with labels."""
        return self.text.labels[self.places].astype(np.float64)

    def pairs(
        self, offsets: tuple[int, int]
    ) -> tuple[Integer[np.ndarray, " key"], Integer[np.ndarray, " place"]]:
        """The pairs of tokens at two offsets, first × `n_symbols` + second, and which each place has."""
        if offsets not in self._pairs:
            first, second = (self.symbols[offset] for offset in offsets)
            keys = first * self.text.n_symbols + second
            self._pairs[offsets] = np.unique(keys, return_inverse=True)
        return self._pairs[offsets]

    def count(self, token: int, window: int) -> Integer[np.ndarray, " place"]:
        """How often a token occurs in the last `window` tokens: `Text.count` of every place."""
        if (token, window) not in self._counts:
            self._counts[token, window] = self.text.count(token, window, self.places)
        return self._counts[token, window]


def draw(
    text: Text,
    places: Integer[np.ndarray, " place"],
    values: Float[np.ndarray, " place"],
    checks: Bool[np.ndarray, " place"],
    *,
    most: int,
    seed: list[int],
) -> tuple[Drawn, Scale]:
    """About `most` places, half of them by distance from the mean, with weights that undo it."""
    values = np.asarray(values, dtype=np.float64)
    mean, spread = float(values.mean()), float(values.std())
    silent = 2 * np.count_nonzero(values) < len(values)
    scale = Scale(mean, spread, 0.0 if silent else mean)
    standard = (values - mean) / (spread or 1.0)
    far = np.abs(standard)
    share = 0.5 / len(far) + 0.5 * far / max(far.sum(), 1e-300)
    chance = np.minimum(1.0, most * share)
    kept = np.flatnonzero(np.random.default_rng(seed).random(len(far)) < chance)
    chosen = places[kept]
    symbols = np.stack([text.at(offset, chosen) for offset in range(REACH + 1)])
    drawn = Drawn(text, chosen, standard[kept], 1 / chance[kept], checks[kept], symbols)
    return drawn, scale
