"""Every unit's activations over a stream, recorded in one pass and kept on disk for all metrics.

What units did is wanted in two orders: by token (probes) and by unit (rules, labels). A sparse site
is kept as its active places, in both orders; a dense one as numbers of 16 bits, ordered by token.
Of files only what is asked for is copied: those of all systems that are compared would together
not fit memory.
"""

import tempfile
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Integer

from pellucid.eval.moments import flat
from pellucid.eval.scratch import Scratch
from pellucid.models import Activations

CHUNK = 8192
"""Tokens handed out at once."""
FILES = {
    "values": np.float32,
    "units": np.int32,
    "tokens_by_unit": np.int32,
    "values_by_unit": np.float32,
    "dense": np.float16,
}
"""What files of a harvest hold."""
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a site besides its activations."""

    n_units: int
    signed: bool = False
    kind: str = "mlp"
    layer: int = 0


class Harvest:
    """The activations of one site on the tokens of a stream: position p of the stream is row p.

    Dense values are rounded to half precision (relative error 2**-11, at most 65504).
    """

    def __init__(self, about: About, *, sparse: bool, scratch: Scratch | None = None) -> None:
        """Begin one, in a folder of its own or below one that was made for it."""
        self.about, self.sparse = about, sparse
        self.n_tokens = 0
        self.remembered: dict[Hashable, Any] = {}
        """what several metrics rest on, found once"""
        self.scratch = scratch or Scratch()
        self._folder = Path(tempfile.mkdtemp(dir=self.scratch.path))
        names = ("values", "units") if sparse else ("dense",)
        self._files = {name: (self._folder / name).open("wb") for name in names}
        self._counts: list[np.ndarray] = []

    @classmethod
    def of(cls, values: Float[np.ndarray, "token unit"], **about) -> "Harvest":
        """A harvest of given values, kept sparse where fewer than a quarter are not 0."""
        about = About(n_units=values.shape[1], **about)
        made = cls(about, sparse=np.count_nonzero(values) < 0.25 * values.size)
        for first in range(0, len(values), CHUNK):
            made.add_rows(values[first : first + CHUNK])
        return made.close()

    def __getstate__(self) -> dict[str, Any]:
        """For another process of this machine, which finds the same files."""
        return self.__dict__ | {"_files": {}}

    def add(self, acts: Activations) -> None:
        """Take in the next tokens, as a model has recorded them `(batch, token, …)`."""
        if not acts.is_sparse:
            return self.add_rows(flat(acts.values))
        units, values = flat(acts.indices), flat(acts.values)
        if not self.sparse:
            return self.add_rows(flat(acts.to_dense()))
        active = (units >= 0) & (values != 0)
        return self._add_active(units[active], values[active], active.sum(1))

    def add_rows(self, rows: Float[np.ndarray, "token unit"]) -> None:
        """Take in the next tokens, all units of each."""
        if self.sparse:
            # Places in a flat array of truth values are found several times as fast as in a table.
            there = rows != 0
            row, unit = np.divmod(np.flatnonzero(there), rows.shape[1])
            return self._add_active(unit, rows[there], np.bincount(row, minlength=len(rows)))
        self._write("dense", np.clip(rows, -LARGEST, LARGEST).astype(np.float16))
        self.n_tokens += len(rows)

    def _add_active(self, units: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
        self._write("units", units.astype(np.int32))
        self._write("values", values.astype(np.float32))
        self._counts.append(counts)
        self.n_tokens += len(counts)

    def _write(self, name: str, values: np.ndarray) -> None:
        self._files[name].write(np.ascontiguousarray(values))

    def close(self) -> "Harvest":
        """Nothing more is added: from here on it may be read."""
        for file in self._files.values():
            file.close()
        if self.sparse:
            self._order_by_unit()
        return self

    def _copy(self, name: str, bounds: np.ndarray) -> np.ndarray:
        """A file's numbers from the first of the bounds to the last: ten times quicker than mapping."""
        dtype = np.dtype(FILES[name])
        about = {"count": bounds[-1] - bounds[0], "offset": bounds[0] * dtype.itemsize}
        return np.fromfile(self._folder / name, dtype, **about)

    def _read(self, name: str) -> np.ndarray:
        """A file's numbers, mapped: to be copied from and dropped. An empty one cannot be mapped."""
        path, dtype = self._folder / name, FILES[name]
        held = path.stat().st_size
        found = np.memmap(path, dtype=dtype, mode="r") if held else np.zeros(0, dtype)
        return found.reshape(self.n_tokens, self.n_units) if name == "dense" else found

    def _order_by_unit(self) -> None:
        counts = np.concatenate(self._counts) if self._counts else np.zeros(0, dtype=np.int64)
        self._by_token = np.concatenate([[0], np.cumsum(counts)])
        units = self._read("units")
        # Numbers of 16 bits are sorted by their digits, twice as fast.
        narrow = np.uint16 if self.about.n_units <= 2**16 else np.int32
        order = np.argsort(units.astype(narrow), kind="stable")
        held = np.bincount(units, minlength=self.about.n_units)
        self._by_unit = np.concatenate([[0], np.cumsum(held)])
        token = np.repeat(np.arange(self.n_tokens, dtype=np.int32), counts)
        token[order].tofile(self._folder / "tokens_by_unit")
        self._read("values")[order].tofile(self._folder / "values_by_unit")

    def rows(
        self, first: int, last: int, place: Integer[np.ndarray, " unit"] | None = None
    ) -> Float32[np.ndarray, "token unit"]:
        """All units on the tokens `first` … `last` - 1, each in its own column or in its place."""
        if not self.sparse:
            read = self._read("dense")[first:last]
            chosen = read if place is None else read[:, np.argsort(place)]
            return np.asarray(chosen, dtype=np.float32)
        bounds = self._by_token[first : last + 1]
        made = np.zeros((len(bounds) - 1, self.about.n_units), dtype=np.float32)
        units, values = self._active_at(bounds)
        column = units if place is None else place[units]
        made[np.repeat(np.arange(len(made)), np.diff(bounds)), column] = values
        return made

    def _active_at(self, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Units and values at the active places of consecutive tokens."""
        return self._copy("units", bounds), self._copy("values", bounds)

    def activations(self, first: int, last: int) -> Activations:
        """The tokens `first` … `last` - 1 as one row of a model's recording."""
        if not self.sparse:
            return Activations(torch.from_numpy(self.rows(first, last))[None], None, self.n_units)
        bounds = self._by_token[first : last + 1]
        counts = np.diff(bounds)
        row = np.repeat(np.arange(len(counts)), counts)
        slot = np.arange(len(row)) - np.repeat(bounds[:-1] - bounds[0], counts)
        shape = (1, len(counts), int(counts.max(initial=0)))
        values = np.zeros(shape, dtype=np.float32)
        units = np.full(shape, -1, dtype=np.int32)
        units[0, row, slot], values[0, row, slot] = self._active_at(bounds)
        return Activations(torch.from_numpy(values), torch.from_numpy(units), self.n_units)

    @property
    def n_units(self) -> int:
        return self.about.n_units

    def counts(self, first: int, last: int) -> Integer[np.ndarray, " token"]:
        """How many units are not 0 on each of the tokens `first` … `last` - 1."""
        if self.sparse:
            return np.diff(self._by_token[first : last + 1])
        return np.count_nonzero(self._read("dense")[first:last], axis=1)

    def chunks(
        self, tokens: int = CHUNK
    ) -> Iterator[tuple[int, Float32[np.ndarray, "token unit"]]]:
        """(first token, all units on the tokens from there), in order, a chunk at a time."""
        for first in range(0, self.n_tokens, tokens):
            yield first, self.rows(first, min(first + tokens, self.n_tokens))

    def columns(
        self, units: Integer[np.ndarray, " unit"] | list[int]
    ) -> Float32[np.ndarray, "token unit"]:
        """Some units on all tokens. Ask for many at once: a dense site is read whole."""
        if not self.sparse:
            chosen = np.empty((self.n_tokens, len(units)), dtype=np.float32)
            for first in range(0, self.n_tokens, CHUNK):
                rows = self._read("dense")[first : first + CHUNK]
                chosen[first : first + CHUNK] = rows[:, units]
            return chosen
        made = np.zeros((len(units), self.n_tokens), dtype=np.float32)
        for row, unit in zip(made, units):
            tokens, values = self.active(int(unit))
            row[tokens] = values
        return made.T

    def active(
        self, unit: int
    ) -> tuple[Int32[np.ndarray, " place"], Float32[np.ndarray, " place"]]:
        """Where a unit is not 0, ascending, and its values there."""
        if not self.sparse:
            values = np.asarray(self._read("dense")[:, unit], dtype=np.float32)
            places = np.flatnonzero(values).astype(np.int32)
            return places, values[places]
        return self._of_units(unit, unit + 1)

    def _of_units(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and values at the active places of consecutive units of a sparse site."""
        bounds = self._by_unit[first : last + 1]
        return self._copy("tokens_by_unit", bounds), self._copy("values_by_unit", bounds)

    def by_unit(
        self, most: int
    ) -> Iterator[
        tuple[
            Integer[np.ndarray, " place"],
            Int32[np.ndarray, " place"],
            Float32[np.ndarray, " place"],
        ]
    ]:
        """Unit, token and value at all active places of a sparse site, ordered by unit.

        About `most` places at a time; those of a unit are never split.
        """
        first = 0
        while first < self.n_units:
            enough = np.searchsorted(self._by_unit, self._by_unit[first] + most)
            last = min(int(enough), self.n_units)
            held = np.diff(self._by_unit[first : last + 1])
            yield np.repeat(np.arange(first, last), held), *self._of_units(first, last)
            first = last

    def density(self) -> Float[np.ndarray, " unit"]:
        """Share of tokens on which each unit is not 0."""
        if self.sparse:
            return np.diff(self._by_unit) / max(self.n_tokens, 1)
        held = sum((rows != 0).sum(0) for _, rows in self.chunks())
        return np.asarray(held) / max(self.n_tokens, 1)


def harvested(values: Mapping[str, np.ndarray], **about) -> dict[str, Harvest]:
    """Harvests of given values `(token, unit)` by site: for tests and for made-up units."""
    return {name: Harvest.of(array, **about) for name, array in values.items()}
