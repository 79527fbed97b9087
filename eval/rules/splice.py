"""The loss of a model whose units are all replaced, at all scored sites at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int32, Integer
from torch import nn

from pellucid.eval.rules.rule import Rule
from pellucid.eval.rules.text import Text
from pellucid.eval.stream import Stream, batches, chunk_rows
from pellucid.models import Activations, intervene, patch


@dataclass(frozen=True)
class Stand:
    """What stands for the units of one site: their means, and rules for some of them."""

    means: Float[np.ndarray, " unit"]
    sparse: bool
    rules: Mapping[int, Rule]

    def without(self) -> "Stand":
        """The means alone: mean ablation."""
        return Stand(self.means, self.sparse, {})

    def values(self, text: Text, places: np.ndarray) -> Float[np.ndarray, "place unit"]:
        """What every unit is set to."""
        made = np.empty((len(places), len(self.means)), dtype=np.float32)
        made[:] = self.means
        for unit, rule in self.rules.items():
            made[:, unit] = rule.predict(text, places)
        return made


class Part(NamedTuple):
    """The beginnings of some documents of a stream, laid end to end."""

    stream: Stream
    places: Integer[np.ndarray, " token"]
    """positions they were taken from"""
    targets: Integer[np.ndarray, " token"]
    """what follows each in the whole stream, also where a document was cut"""


def losses(
    model: nn.Module, scored: Part, text: Text, context: int, stands: Mapping[str, Stand]
) -> Float[np.ndarray, " document"]:
    """Nats of each document with every site's units replaced; as it is, where nothing stands."""
    stream, targets = scored.stream, torch.from_numpy(scored.targets)
    nats = np.zeros(len(targets))
    device = next(model.parameters()).device
    for places in _windows(model, stream, context, tuple(stands)):
        rows = torch.from_numpy(stream.tokens[places]).to(device)
        edits = {name: patch(_source(stand, text, places)) for name, stand in stands.items()}
        with torch.no_grad(), intervene(model, edits):
            logits = model(rows).logits.float().flatten(0, 1)
        wanted = targets[places.ravel()].to(device)
        nats[places.ravel()] = F.cross_entropy(logits, wanted, reduction="none").double().cpu()
    return stream.per_document(nats)


def _windows(
    model: nn.Module, stream: Stream, context: int, sites: tuple[str, ...]
) -> Iterator[np.ndarray]:
    """Positions (row, column) of the rows read at once, end to end."""
    n = len(stream.tokens)
    for starts, length in batches(n, context, context, chunk_rows(model, context, sites)):
        yield starts[:, None] + np.arange(length)


def _source(stand: Stand, text: Text, places: np.ndarray) -> Activations:
    values = stand.values(text, places.ravel())
    if not stand.sparse:
        return Activations(torch.from_numpy(values).reshape(*places.shape, -1))
    kept, units = slots(values)
    shape = (*places.shape, -1)
    return Activations(
        torch.from_numpy(kept).reshape(shape),
        torch.from_numpy(units).expand(len(kept), -1).reshape(shape),
        values.shape[1],
    )


def slots(
    values: Float32[np.ndarray, "place unit"],
) -> tuple[Float32[np.ndarray, "place slot"], Int32[np.ndarray, "rows slot"]]:
    """Values that are not 0 and their units, ascending; -1 and 0 fill up to the longest row.

    Where some row has half of all units, as where they stand at their means, every unit has a slot
    in every row, also if it is 0 there, and one row of units is given for all.
    """
    there = values != 0
    counts = there.sum(1)
    width = max(1, int(counts.max(initial=0)))
    if 2 * width >= values.shape[1]:
        return values, np.arange(values.shape[1], dtype=np.int32)[None]
    filled = np.arange(width) < counts[:, None]
    kept = np.zeros((len(values), width), dtype=np.float32)
    units = np.full((len(values), width), -1, dtype=np.int32)
    kept[filled], units[filled] = values[there], np.nonzero(there)[1]
    return kept, units


def part(stream: Stream, documents: Integer[np.ndarray, " document"], most: int) -> Part:
    """The first `most` tokens of each of some documents."""
    inside = np.arange(len(stream.tokens)) - stream.offsets[stream.document]
    places = np.flatnonzero(np.isin(stream.document, documents) & (inside < most))
    lengths = np.minimum(np.diff(stream.offsets)[documents], most)
    cut = Stream(
        tokens=stream.tokens[places],
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        names=[stream.names[d] for d in documents],
        doc_bytes=stream.doc_bytes[documents],
        eot=stream.eot,
        complete=False,
    )
    return Part(cut, places, stream.targets()[places])
