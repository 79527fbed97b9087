"""For every unit and label: on how many tokens both are on, at several thresholds, in each half.

One pass over a harvest serves all metrics that compare units with labels. A unit fires where
`sign · value` is above a threshold. A sparse site is counted from its active places: they are
sorted into bins (unit, sign, level), and the labels are summed over each bin.
A dense site is counted by blocks: thresholds that many tokens pass by a dense product of the
indicator with the labels, two labels in one column; the rest by their places, as above.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Integer
from torch.nn.functional import embedding_bag

from pellucid.eval.harvest import Harvest

FIELD = 4096
"""Two counts below this share one float32 exactly: FIELD² = 2²⁴."""
UNITS = 256
"""Units of a block."""
PLACES = 2**21
"""Active places counted at once, for memory's sake; a unit's places are never split."""
MANY = 0.03
"""Share of tokens above which a dense product is quicker than counting places."""


class Places(NamedTuple):
    """Places where units are not 0: of unit `unit`, on token `token`, with what value."""

    unit: Integer[np.ndarray, " place"]
    token: Integer[np.ndarray, " place"]
    value: Float[np.ndarray, " place"]


def signs_of(harvest: Harvest) -> tuple[int, ...]:
    """The signs in which a site's units speak."""
    return (1, -1) if harvest.about.signed else (1,)


def count(
    harvest: Harvest,
    thresholds: Float[np.ndarray, "sign unit threshold"],
    columns: Bool[np.ndarray, "token column"],
    half: Integer[np.ndarray, " token"],
    *,
    n_halves: int = 2,
) -> Int32[np.ndarray, "half sign threshold unit column"]:
    """How often a unit fires at each threshold while a column holds; tokens of half -1 are left out.

    Thresholds are at least 0 and ascend along their axis; infinity means never.
    """
    n_signs, n_units, n_levels = thresholds.shape
    shape = (n_halves, n_signs, n_levels, n_units, columns.shape[1])
    counting = _Counting(np.zeros(shape, dtype=np.int32), thresholds, columns, half)
    if harvest.sparse:
        for places in blocks(harvest):
            counting.places(places)
    else:
        for first, rows in harvest.chunks(FIELD - 1):
            counting.rows(first, rows)
    return counting.summed()


def blocks(harvest: Harvest) -> Iterator[Places]:
    """All active places of a sparse site, unit by unit, some units at a time."""
    return (Places(*found) for found in harvest.by_unit(PLACES))


class _Counting:
    """Counts being made: below each unit's `cut` of passed thresholds, from there on of levels."""

    def __init__(
        self, counts: np.ndarray, thresholds: np.ndarray, columns: np.ndarray, half: np.ndarray
    ) -> None:
        self.counts, self.columns, self.half = counts, columns, half
        self.thresholds = thresholds.astype(np.float32)
        self.cut: dict[tuple[int, int], int] = {}
        """first threshold counted by places, by sign and block of a dense site"""

    @cached_property
    def packed(self) -> torch.Tensor:
        return _packed(self.columns)

    def places(self, places: Places) -> None:
        """Take in places."""
        _, n_signs, n_levels, n_units, n_columns = self.counts.shape
        at = self.half[places.token] >= 0
        unit, token, value = (part[at] for part in places)
        sign = (value < 0).astype(np.int64) if n_signs == 2 else np.zeros(len(unit), np.int64)
        strength = np.abs(value) if n_signs == 2 else value
        level, which = np.full(len(unit), -1), sign * n_units + unit
        for bar in self.thresholds.reshape(-1, n_levels).T:
            level += strength > np.ascontiguousarray(bar).take(which)
        cell = ((self.half[token] * n_signs + sign) * n_levels + level) * n_units + unit
        above, n_cells = level >= 0, self.counts.size // n_columns
        bins, sums = _binned(cell[above], token[above], self.packed, n_cells, n_columns)
        self.counts.reshape(-1, n_columns)[bins] += sums

    def rows(self, start: int, rows: np.ndarray) -> None:
        """Take in all units on the tokens from `start` on, fewer than FIELD of them."""
        half = self.half[start : start + len(rows)]
        for h in range(len(self.counts)):
            token = np.flatnonzero(half == h)
            if len(token):
                packed = _packed(self.columns[start + token])
                for low in range(0, rows.shape[1], UNITS):
                    block = np.ascontiguousarray(rows[token, low : low + UNITS].T)
                    self._block(h, low, block, packed, start + token)

    def _block(
        self, h: int, low: int, block: np.ndarray, packed: torch.Tensor, token: np.ndarray
    ) -> None:
        units = slice(low, low + len(block))
        for s in range(self.counts.shape[1]):
            strength = torch.from_numpy(block if s == 0 else -block)
            bar = torch.from_numpy(self.thresholds[s, units])
            cut = self._cut(s, low, strength, bar)
            fires = torch.empty_like(strength)
            for i in range(cut):
                torch.gt(strength, bar[:, i : i + 1], out=fires)
                self.counts[h, s, i, units] += _unpacked(fires @ packed, self.counts.shape[-1])
            if cut < self.counts.shape[2]:
                passing = strength > bar[:, cut : cut + 1]
                at, place = (part.numpy() for part in passing.nonzero(as_tuple=True))
                self.places(Places(at + low, token[place], block[at, place]))

    def _cut(self, s: int, low: int, strength: torch.Tensor, bar: torch.Tensor) -> int:
        """First threshold that few tokens pass, as the first tokens of a block decide it."""
        if (s, low) not in self.cut:
            shares = ((strength > bar[:, i : i + 1]).float().mean() for i in range(bar.shape[1]))
            few = (i for i, share in enumerate(shares) if float(share) < MANY)
            self.cut[s, low] = next(few, bar.shape[1])
        return self.cut[s, low]

    def summed(self) -> Int32[np.ndarray, "half sign threshold unit column"]:
        """The counts, once everything has been taken in: who is at a level passed those before."""
        for s in range(self.counts.shape[1]):
            for low in range(0, self.counts.shape[3], UNITS):
                levels = self.counts[:, s, :, low : low + UNITS]
                for i in reversed(range(self.cut.get((s, low), 0), levels.shape[1] - 1)):
                    levels[:, i] += levels[:, i + 1]
        return self.counts


def _packed(columns: np.ndarray) -> torch.Tensor:
    """Two columns in one: the second counts in units of FIELD."""
    packed = columns[:, 0::2].astype(np.float32)
    second = columns[:, 1::2]
    packed[:, : second.shape[1]] += second * np.float32(FIELD)
    return torch.from_numpy(packed)


def _unpacked(sums: torch.Tensor, n_columns: int) -> np.ndarray:
    whole = sums.to(torch.int32)
    pairs = torch.stack([whole % FIELD, whole // FIELD], dim=-1)
    return pairs.flatten(1)[:, :n_columns].numpy()


def _binned(
    bins: np.ndarray, token: np.ndarray, packed: torch.Tensor, n_bins: int, n_columns: int
) -> tuple[Integer[np.ndarray, " bin"], Int32[np.ndarray, "bin column"]]:
    """The bins that occur, and for each the sum of the columns over its tokens."""
    # Numbers of 16 bits are sorted by their digits, several times as fast.
    narrow = np.uint16 if n_bins <= 2**16 else np.int64
    order = np.argsort(bins.astype(narrow), kind="stable")
    ordered = bins[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    # A bin of many tokens is summed in pieces: two counts share a number below FIELD.
    pieces = -(-np.diff(starts, append=len(ordered)) // (FIELD - 1))
    first = np.cumsum(pieces) - pieces
    rank = np.arange(pieces.sum()) - np.repeat(first, pieces)
    sums = embedding_bag(
        torch.from_numpy(token[order].astype(np.int64)),
        packed,
        torch.from_numpy(np.repeat(starts, pieces) + rank * (FIELD - 1)),
        mode="sum",
    )
    sums = _unpacked(sums, n_columns)
    return ordered[starts], np.add.reduceat(sums, first, axis=0, dtype=np.int32)
