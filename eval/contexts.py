"""Examples of what each unit responds to, from its whole range and not only from its top.

The active tokens of a unit fall into four bands by |activation|, which together hold all of its
activation mass: `p10` the weakest fifth, `p50` the middle three fifths, `p90` from the 80th to the
99th percentile, `top` the strongest hundredth. The first three are centered on, or close to, the
percentile they are named after; a unit of one constant strength has a top and nothing else. `top`
shows the strongest tokens of all, even where they are more than a hundredth; the other bands show
tokens drawn at random. Beside them stand tokens on which the unit is silent: drawn at random
(`silent`), and with a current token at which it is active elsewhere (`near_miss`). What a unit's
silence rules out says as much as what excites it.

Edges between bands come from a histogram of 32 steps an octave: where a unit's strengths crowd
closer together than that, its shares are approximate.

A context never leaves its document, nor the row in which the model read it.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from torch import as_tensor

from pellucid.eval.moments import Moments, flat
from pellucid.eval.sample import Pool, lottery
from pellucid.eval.silences import KINDS, places
from pellucid.eval.stream import Stream
from pellucid.models import Activations

EDGES = (0.2, 0.8, 0.99)
BANDS = {"p10": 3, "p50": 3, "p90": 3, "top": 5}
"""Bands from weak to strong, and how many contexts of each are shown."""
BEFORE, AFTER = 23, 8
"""Tokens of a context on either side of the one it is about: 32 in all."""
SPARE = 3
"""Candidates kept for each context shown, so that repeated text can be passed over."""
SAME = 6
"""Contexts whose last so many tokens are equal count as repeated."""


class Context(NamedTuple):
    """One example: the unit's activations on the tokens from `first` on, about `position`."""

    band: str
    position: int
    first: int
    values: Float[np.ndarray, " shown"]


class _Chunk(NamedTuple):
    """Values of the shown units on consecutive tokens, and the places where they are active."""

    values: Float[np.ndarray, "token unit"]
    start: int
    at: Integer[np.ndarray, " active"]
    unit: Integer[np.ndarray, " active"]

    def enter(self, pool: Pool, items: np.ndarray, priority: np.ndarray) -> None:
        """Offer some of the active places to a pool."""
        kept = items[pool.wanted(self.unit[items], priority[items])]
        at, unit = self.at[kept], self.unit[kept]
        pool.merge(unit, priority[kept], self.start + at, self.around(at, unit))

    def around(self, at: np.ndarray, unit: np.ndarray) -> Float[np.ndarray, "place column"]:
        """Units' values around places; what lies beyond the chunk is cut off later."""
        columns = at[:, None] + np.arange(-BEFORE, AFTER + 1)
        return self.values[np.clip(columns, 0, len(self.values) - 1), unit[:, None]]


class Contexts:
    """Collects contexts and activation mass of the shown units of one site, in one pass."""

    def __init__(
        self,
        moments: Moments,
        threshold: Float[np.ndarray, " unit"],
        stream: Stream,
        *,
        shown: int,
        context: int,
        seed: int,
    ) -> None:
        self.units, self.choice = choose(moments.largest > 0, shown, seed)
        self.threshold = threshold[self.units]
        self.edges = moments.quantiles(EDGES, self.units, self.threshold)
        self.mass = np.zeros((len(self.units), len(BANDS)))
        width = BEFORE + 1 + AFTER
        self.pools = [Pool(len(self.units), SPARE * most, width) for most in BANDS.values()]
        self.places = places(stream, moments, self.units, seed)
        self.silent = np.zeros(len(self.places), dtype=bool)
        self.around_places = np.zeros((len(self.places), width), dtype=np.float32)
        self.stream, self.row, self.seed = stream, context, seed

    def add(self, start: int, acts: Activations) -> None:
        """Take in one chunk of whole rows, which begins at this position of the stream."""
        values = flat(acts.select(as_tensor(self.units, device=acts.values.device)))
        at, unit = np.nonzero(np.abs(values) > self.threshold)
        chunk = _Chunk(values, start, at, unit)
        strength = np.abs(values[at, unit])
        band = (strength[:, None] >= self.edges[unit]).sum(1)
        cell = unit * len(BANDS) + band
        self.mass += np.bincount(cell, strength, self.mass.size).reshape(self.mass.shape)
        draw = lottery(chunk.start + at, self.units[unit], self.seed)
        *drawn, strongest = self.pools
        for i, pool in enumerate(drawn):
            chunk.enter(pool, np.flatnonzero(band == i), draw)
        # Shrunk by less than float32 resolves: the draw decides between equal strengths.
        chunk.enter(strongest, np.arange(len(at)), -strength * (1 - draw * 2.0**-26))
        self._watch_silences(chunk)

    def _watch_silences(self, chunk: "_Chunk") -> None:
        begin, end = chunk.start, chunk.start + len(chunk.values)
        first, last = np.searchsorted(self.places["position"], [begin, end])
        at, unit = self.places["position"][first:last] - begin, self.places["unit"][first:last]
        self.silent[first:last] = np.abs(chunk.values[at, unit]) <= self.threshold[unit]
        self.around_places[first:last] = chunk.around(at, unit)

    def of(self, i: int) -> list[Context]:
        """The contexts of the i-th shown unit: from strong to weak, then the silent ones."""
        found, shown = [], set()
        for (band, most), pool in reversed([*zip(BANDS.items(), self.pools)]):
            items = (item for item in pool.of(i) if item[0] not in shown)
            new = [self._context(band, *item) for item in islice(self._fresh(items), most)]
            found, shown = found + new, shown | {context.position for context in new}
        return found + self._silences_of(i)

    def shares(self, i: int) -> dict[str, float]:
        """Share of the unit's activation mass in each band: they sum to 1, to 0 if it is dead."""
        total = self.mass[i].sum()
        return {b: float(m / total) if total else 0.0 for b, m in zip(BANDS, self.mass[i])}

    def _silences_of(self, i: int) -> list[Context]:
        found = []
        for kind, (name, most) in enumerate(KINDS.items()):
            mine = (self.places["unit"] == i) & (self.places["kind"] == kind) & self.silent
            at = np.flatnonzero(mine)
            at = at[np.argsort(self.places["turn"][at], kind="stable")]
            items = ((int(self.places["position"][a]), self.around_places[a]) for a in at)
            found += [self._context(name, *item) for item in islice(self._fresh(items), most)]
        return found

    def _fresh(self, items: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Those whose text has not been seen before."""
        seen = set()
        for position, values in items:
            text = self.stream.tokens[max(0, position + 1 - SAME) : position + 1].tobytes()
            if text not in seen:
                seen.add(text)
                yield position, values

    def _context(self, name: str, position: int, around: np.ndarray) -> Context:
        first, last = window(self.stream, position, self.row)
        shown = around[first - position + BEFORE : last - position + BEFORE]
        return Context(name, position, first, shown)


def window(stream: Stream, position: int, context: int) -> tuple[int, int]:
    """First token, and one after the last, that are shown about a position of the stream.

    Never more than its document, nor than the row of `context` tokens that the model read it in.
    """
    document, row = stream.document[position], position // context * context
    begin, end = stream.offsets[document : document + 2]
    first = max(position - BEFORE, begin, row)
    return int(first), int(min(position + AFTER + 1, end, row + context))


def choose(living: np.ndarray, most: int, seed: int) -> tuple[np.ndarray, str]:
    """Units to show, ascending, and the choice in words."""
    if len(living) <= most:
        return np.arange(len(living)), f"all {len(living)} units"
    alive = np.flatnonzero(living)
    if len(alive) <= most:
        return alive, f"all {len(alive)} living units of {len(living)}"
    chosen = np.random.default_rng(seed).choice(alive, most, replace=False)
    words = (
        f"{most} of {len(alive):,} living units ({len(living):,} in all), drawn with seed {seed}"
    )
    return np.sort(chosen), words
