"""Intruder detection without a language model: do the places where a unit fires look alike?

Four windows of text that end where the unit fires about equally strongly are shown with one that
ends where it is silent; the judge is to find it. Chance is 1/5. The judge is a fixed embedding, the
TF-IDF of a window's n-grams, in which near ones weigh more: the window farthest from the center of
the other four is named. It needs no explanation of the unit. `Judge` lets a language model take its
place: prompt in, text out.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Integer

from pellucid.eval.rules.text import Text

WINDOW, SHOWN, BANDS = 16, 4, 10
FEWEST = 8
"""Places at which a unit must fire to be judged."""
Judge = Callable[[str], str]


@dataclass(frozen=True)
class Embedding:
    """Windows of a text as weights of their 1-grams and 2-grams, by how rare each is."""

    text: Text

    @cached_property
    def grams(self) -> tuple[Integer[np.ndarray, "order token"], list[np.ndarray]]:
        """Rank of the n-gram that ends at each position, and log(N / occurrences) of each rank."""
        everywhere = np.arange(len(self.text.tokens))
        now, last = self.text.at(0, everywhere), self.text.at(1, everywhere)
        ranks, rarity = [], []
        for keys in (now, last * self.text.n_symbols + now):
            _, rank, count = np.unique(keys, return_inverse=True, return_counts=True)
            ranks.append(rank)
            rarity.append(np.log(len(keys) / count))
        return np.stack(ranks), rarity

    def __call__(self, places: Integer[np.ndarray, " window"]) -> Float[np.ndarray, "window gram"]:
        """Unit vectors of the windows that end at `places`, over the n-grams they hold."""
        ranks, rarity = self.grams
        back = places[:, None] - np.arange(WINDOW)
        inside = back >= self.text.row[places][:, None]
        near = np.where(inside, 1 / (1 + np.arange(WINDOW)), 0.0)
        parts = []
        for rank, rare in zip(ranks, rarity, strict=True):
            held = rank[np.maximum(back, 0)]
            _, column = np.unique(held, return_inverse=True)
            column = column.reshape(held.shape)
            made = np.zeros((len(places), column.max() + 1))
            np.add.at(made, (np.arange(len(places))[:, None], column), near * rare[held])
            parts.append(made)
        whole = np.concatenate(parts, axis=1)
        return whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)


def farthest(vectors: Float[np.ndarray, "window gram"]) -> Float[np.ndarray, " window"]:
    """The chance that each window is named: equal among those farthest from the others' center."""
    others = vectors.sum(0) - vectors
    norm = np.maximum(np.linalg.norm(others, axis=1), 1e-12)
    alike = (vectors * others).sum(1) / norm
    named = alike <= alike.min() + 1e-12
    return named / named.sum()


def found(
    embedding: Embedding,
    places: Integer[np.ndarray, " active"],
    strength: Float[np.ndarray, " active"],
    *,
    trials: int,
    seed: list[int],
) -> float | None:
    """Share of intruders found for one unit; None where it fires too rarely, or nearly always."""
    n = len(embedding.text.tokens)
    if len(places) < FEWEST or n - len(places) < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    return float(
        np.mean(
            [farthest(embedding(_drawn(places, strength, n, rng)))[SHOWN] for _ in range(trials)]
        )
    )


def _drawn(
    places: np.ndarray, strength: np.ndarray, n: int, rng: np.random.Generator
) -> Integer[np.ndarray, " window"]:
    """Four places of one band of strength, and then one where the unit is silent."""
    bands = np.array_split(np.argsort(strength, kind="stable"), min(BANDS, len(places) // SHOWN))
    alike = places[rng.choice(bands[rng.integers(len(bands))], SHOWN, replace=False)]
    while True:
        intruder = rng.integers(n)
        at = np.searchsorted(places, intruder)
        if at == len(places) or places[at] != intruder:
            return np.append(alike, intruder)


def judged(
    judge: Judge,
    text: Text,
    windows: Integer[np.ndarray, " window"],
    names: Callable[[int], str],
    *,
    seed: list[int],
) -> float:
    """1 if a judge names the last of the windows, 0 if another, 1/5 if its answer names none."""
    order = np.random.default_rng(seed).permutation(len(windows))
    answer = re.search(rf"\b[1-{len(windows)}]\b", judge(prompt(text, windows[order], names)))
    if answer is None:
        return 1 / len(windows)
    return float(order[int(answer.group()) - 1] == len(windows) - 1)


def prompt(text: Text, windows: Integer[np.ndarray, " window"], names: Callable[[int], str]) -> str:
    """What a judge is asked."""
    lines = ["All but one of these texts end where something they share is found."]
    for number, place in enumerate(windows, start=1):
        first = max(int(text.row[place]), int(place) - WINDOW + 1)
        shown = "".join(names(int(t)) for t in text.tokens[first : place + 1])
        lines.append(f"{number}. {shown!r}")
    return "\n".join([*lines, "Which one does not belong? Answer with its number alone."])
