"""Examples of what each unit responds to, from its whole range and not only from its top.

The active tokens of a unit fall into four bands by |activation|, which together hold all of its
activation mass: `p10` the weakest fifth, `p50` the middle three fifths, `p90` from the 80th to the
99th percentile, `top` the strongest hundredth. The first three are centered on, or close to, the
percentile they are named after; a unit of one constant strength has a top and nothing else. `top`
shows the strongest tokens, the other bands tokens drawn at random. Beside them stand tokens on
which the unit is silent: drawn at random (`silent`), and with the same current token as one of the
unit's peaks (`near_miss`). What a unit's silence rules out says as much as what excites it.

A context never leaves its document, nor the row in which the model read it.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import as_tensor

from pellucid.eval.moments import Moments, flat
from pellucid.eval.sample import Pool, lottery
from pellucid.eval.silences import KINDS, places
from pellucid.eval.stream import Stream, Window
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
        self.edges = moments.quantiles(EDGES, threshold)[self.units]
        self.mass = np.zeros((len(self.units), len(BANDS)))
        width = BEFORE + 1 + AFTER
        self.pools = [Pool(len(self.units), SPARE * most, width) for most in BANDS.values()]
        self.places = places(stream, moments, self.units, seed)
        self.silent = np.zeros(len(self.places), dtype=bool)
        self.around_places = np.zeros((len(self.places), width), dtype=np.float32)
        self.stream, self.row, self.seed = stream, context, seed

    def add(self, window: Window, acts: Activations) -> None:
        """Take in one chunk of the stream."""
        values = flat(acts.select(as_tensor(self.units, device=acts.values.device)))
        start = int(window.starts[0])
        at, unit = np.nonzero(np.abs(values) > self.threshold)
        strength = np.abs(values[at, unit])
        band = (strength[:, None] >= self.edges[unit]).sum(1)
        cell = unit * len(BANDS) + band
        self.mass += np.bincount(cell, strength, self.mass.size).reshape(self.mass.shape)
        draw = lottery(start + at, self.units[unit], self.seed)
        # Shrunk by less than float32 resolves: the draw decides between equal strengths.
        draw = np.where(band == len(BANDS) - 1, -strength * (1 - draw * 2.0**-26), draw)
        for i, pool in enumerate(self.pools):
            mine = np.flatnonzero(band == i)
            kept = mine[pool.wanted(unit[mine], draw[mine])]
            around = _around(values, at[kept], unit[kept])
            pool.merge(unit[kept], draw[kept], start + at[kept], around)
        self._watch_silences(values, start)

    def _watch_silences(self, values: np.ndarray, start: int) -> None:
        first, last = np.searchsorted(self.places["position"], [start, start + len(values)])
        at, unit = self.places["position"][first:last] - start, self.places["unit"][first:last]
        self.silent[first:last] = np.abs(values[at, unit]) <= self.threshold[unit]
        self.around_places[first:last] = _around(values, at, unit)

    def of(self, i: int) -> list[Context]:
        """The contexts of the i-th shown unit: from strong to weak, then the silent ones."""
        active = [
            self._context(band, *item)
            for (band, most), pool in zip(BANDS.items(), self.pools, strict=True)
            for item in islice(self._fresh(pool.of(i)), most)
        ]
        order = [*reversed(BANDS)]
        return sorted(active, key=lambda c: order.index(c.band)) + self._silences_of(i)

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
        document, row = self.stream.document[position], position // self.row * self.row
        begin, end = self.stream.offsets[document : document + 2]
        first = max(position - BEFORE, begin, row)
        last = min(position + AFTER + 1, end, row + self.row)
        shown = around[first - position + BEFORE : last - position + BEFORE]
        return Context(name, position, int(first), shown)


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


def _around(values: np.ndarray, at: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The units' values around places of a chunk; what lies beyond it is cut off later."""
    columns = at[:, None] + np.arange(-BEFORE, AFTER + 1)
    return values[np.clip(columns, 0, len(values) - 1), unit[:, None]]
