"""Moments and histograms of every unit's activations, streamed chunk by chunk.

Within a chunk deviations are taken from the chunk's own mean, in float64; chunks are merged by
Pébay's formulas (Sandia SAND2008-6212, eq. 3.1), so nothing cancels however far the mean is from 0.
"""

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from pellucid.models import Activations

OCTAVES, LOWEST, STEPS_LOG2 = 28, -14, 5
BINS = OCTAVES << STEPS_LOG2
"""Histogram of |activation|: 32 equal steps in each of 28 octaves from 2**-14 on."""
BLOCK = 64
"""Units of a dense site treated at once."""
PEAKS = 64
"""Chunks whose strongest tokens are remembered."""


class Moments:
    """Running statistics of the units of one site; `n` counts tokens, silent ones included."""

    def __init__(self, n_units: int) -> None:
        self.n = 0
        self.mean, self.m2, self.m3, self.m4 = np.zeros((4, n_units))
        self.largest = np.zeros(n_units, dtype=np.float32)
        self.histogram = np.zeros((n_units, BINS), dtype=np.int32)
        self.is_sparse = False
        self.peaks: list[Integer[np.ndarray, " unit"]] = []
        """for each of the first chunks, the token at which each unit was strongest; -1 if silent"""
        self.typical: list[Integer[np.ndarray, " unit"]] = []
        """the same for any one token at which it was active"""

    def add(self, acts: Activations) -> None:
        """Take in one chunk of activations `(batch, token, …)`."""
        self.is_sparse = acts.is_sparse
        if acts.is_sparse:
            self._add_sparse(acts)
        else:
            self._add_dense(acts)

    def _add_sparse(self, acts: Activations) -> None:
        """Slots only: a unit's silent tokens enter through their number."""
        row, slot = np.nonzero(flat(acts.indices) >= 0)
        unit = flat(acts.indices)[row, slot].astype(np.int64)
        value = flat(acts.values)[row, slot]
        tokens, width = acts.indices.shape[:-1].numel(), len(self.mean)
        mean = np.bincount(unit, value, width) / tokens
        off = value - mean[unit]
        silent = tokens - np.bincount(unit, minlength=width)
        central = [np.bincount(unit, off**p, width) + silent * (-mean) ** p for p in (2, 3, 4)]
        cells = np.bincount(unit * BINS + bin_of(value), minlength=self.histogram.size)
        self.histogram += cells.reshape(self.histogram.shape).astype(np.int32)
        last = np.full(width, -1)
        last[unit] = row
        self._remember(unit, row, np.abs(value), last)
        self._merge(tokens, mean, *central)

    def _add_dense(self, acts: Activations) -> None:
        values = acts.values.flatten(0, 1).cpu().float()
        blocks = enumerate(values.split(BLOCK, dim=1))
        parts = [self._dense_block(block.T.contiguous(), i * BLOCK) for i, block in blocks]
        strongest, row, last, *moments = (np.concatenate(part) for part in zip(*parts))
        self._remember(np.arange(len(self.mean)), row, strongest, last)
        self._merge(len(values), *moments)

    def _dense_block(self, block: Float[Tensor, "unit token"], first: int) -> list[np.ndarray]:
        """Of a few units: peak, its row, last active row, mean, central sums; fills histograms."""
        units = len(block)
        cell = bin_of(block.numpy()) + np.arange(units)[:, None] * BINS
        counts = np.bincount(cell.ravel(), minlength=units * BINS).reshape(units, BINS)
        counts[:, 0] -= (block == 0).sum(1).numpy()
        self.histogram[first : first + units] += counts.astype(np.int32)
        mean = block.mean(1, dtype=torch.float64)
        off = block - mean[:, None]
        square = off * off
        sums = [square.sum(1), (square * off).sum(1), (square * square).sum(1)]
        strongest, row = block.abs().max(1)
        # Not yet `threshold`, which needs the largest value of all.
        active = (block.abs() > strongest[:, None] / 10).numpy()
        last = np.where(active.any(1), active.shape[1] - 1 - active[:, ::-1].argmax(1), -1)
        return [strongest.numpy(), row.numpy(), last, mean.numpy(), *(s.numpy() for s in sums)]

    def _merge(
        self, n: int, mean: np.ndarray, m2: np.ndarray, m3: np.ndarray, m4: np.ndarray
    ) -> None:
        a, b, both = self.n, n, self.n + n
        d = mean - self.mean
        self.m4 += m4 + d**4 * a * b * (a * a - a * b + b * b) / both**3
        self.m4 += 6 * d**2 * (a * a * m2 + b * b * self.m2) / both**2
        self.m4 += 4 * d * (a * m3 - b * self.m3) / both
        self.m3 += m3 + d**3 * a * b * (a - b) / both**2 + 3 * d * (a * m2 - b * self.m2) / both
        self.m2 += m2 + d**2 * a * b / both
        self.mean += d * b / both
        self.n = both

    def _remember(
        self, unit: np.ndarray, row: np.ndarray, strength: np.ndarray, last: np.ndarray
    ) -> None:
        """Keep each unit's strongest and last active place of the chunk, as positions."""
        strongest = np.zeros(len(self.mean), dtype=np.float32)
        np.maximum.at(strongest, unit, strength)
        peak = np.full(len(self.mean), -1)
        # Written backwards: where several rows tie, the first one stays.
        at = np.flatnonzero((strength == strongest[unit]) & (strength > 0))[::-1]
        peak[unit[at]] = self.n + row[at]
        if len(self.peaks) < PEAKS:
            self.peaks.append(peak)
            self.typical.append(np.where(last >= 0, self.n + last, -1))
        np.maximum(self.largest, strongest, out=self.largest)

    @property
    def kurtosis(self) -> Float[np.ndarray, " unit"]:
        """m4 / m2² (3 for a Gaussian); NaN for a unit that never moved."""
        unknown = np.full_like(self.m2, np.nan)
        return np.divide(self.n * self.m4, self.m2**2, out=unknown, where=self.m2 > 0)

    def threshold(self, *, signed: bool) -> Float[np.ndarray, " unit"]:
        """A unit is active where |activation| is above this.

        0 where the layer itself decides who speaks (sparse sites) and where silence is exactly 0
        (units without sign). Dense signed units (GELU, SwiGLU) are never exactly silent: for them
        it is 10 % of the unit's largest |activation|, rounded down to a step of the histogram.
        """
        if self.is_sparse or not signed:
            return np.zeros_like(self.largest)
        return edge(bin_of(self.largest / 10)).astype(np.float32)

    def quantiles(
        self,
        shares: tuple[float, ...],
        units: Integer[np.ndarray, " picked"],
        threshold: Float[np.ndarray, " picked"],
    ) -> Float[np.ndarray, "picked share"]:
        """|activation| below which these shares of a unit's active tokens lie, to 1/32 octave."""
        active = np.arange(BINS) >= np.where(threshold > 0, bin_of(threshold), 0)[:, None]
        reached = np.cumsum(self.histogram[units] * active, axis=1)
        wanted = np.asarray(shares) * reached[:, -1:]
        place = np.stack([(reached < w[:, None]).sum(1) for w in wanted.T], axis=1)
        before = np.take_along_axis(np.pad(reached, ((0, 0), (1, 0))), place, 1)
        inside = np.take_along_axis(reached, place, 1) - before
        part = np.divide(wanted - before, inside, out=np.zeros_like(wanted), where=inside > 0)
        largest = self.largest[units, None]
        upper = np.minimum(edge(place + 1), largest)
        return np.minimum(edge(place) + part * (upper - edge(place)), largest)


def flat(values: Tensor) -> np.ndarray:
    """`(batch, token, slot)` as `(row, slot)` on the CPU, floats as float32."""
    values = values.flatten(0, 1).cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


def bin_of(values: np.ndarray | np.floating) -> np.ndarray:
    """Histogram bin of |value|: a float's exponent and first mantissa bits are its logarithm's."""
    bits = np.abs(np.ascontiguousarray(values, dtype=np.float32)).view(np.int32)
    lowest = (127 + LOWEST) << STEPS_LOG2
    return np.clip((bits >> (23 - STEPS_LOG2)) - lowest, 0, BINS - 1)


def edge(place: Integer[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Lower edge of a bin; the first one reaches down to 0."""
    octave, step = np.divmod(place, 2**STEPS_LOG2)
    return np.where(place > 0, np.ldexp(1 + step / 2**STEPS_LOG2, octave + LOWEST), 0.0)
