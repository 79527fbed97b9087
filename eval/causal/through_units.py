"""The logits split in two: what units write straight to them, and the rest.

A unit's direct part is its activation times its write direction, passed through the final norm at
the scale that the whole stream gives it (frozen), and through the head's matrix.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.eval.causal.passes import Rows, chunks
from pellucid.eval.score import NoValue
from pellucid.models import Activations, UnitSite, record

NUMBERS = 2**24
"""Numbers gathered at once where units are sparse."""


class Split(NamedTuple):
    """Logits of some rows, `(row, column, vocab)`."""

    at: slice
    """which rows"""
    logits: Tensor
    parts: dict[str, Tensor]
    """what the units of each site write to them"""


@dataclass
class Splitter:
    """Splits a model's logits; sites whose units have no single write direction are left out."""

    model: nn.Module
    sites: dict[str, UnitSite]

    def __post_init__(self) -> None:
        if not self.write:
            raise NoValue(
                "no unit of the model has a single direction that it writes to the stream"
            )
        if self.last is None:
            raise NoValue("no site of the model shows the stream that its head reads")

    @cached_property
    def write(self) -> dict[str, Float[Tensor, "unit d_model"]]:
        # What a head's units write is added after the final norm.
        sites = {name: site for name, site in self.sites.items() if site.kind != "head"}
        found = {name: site.write_directions() for name, site in sites.items()}
        return {name: direction for name, direction in found.items() if direction is not None}

    @cached_property
    def last(self) -> str | None:
        """The site of the stream after the last block."""
        streams = [name for name, site in self.model.sites().items() if site.kind == "stream"]
        return streams[-1] if streams else None

    @torch.no_grad()
    def split(self, rows: Rows) -> Iterator[Split]:
        """The logits of the rows and their parts, some rows at a time, centered over the vocabulary."""
        device = next(self.model.parameters()).device
        # The last stream can be a scored site itself.
        watched = tuple(dict.fromkeys([*self.write, self.last]))
        with record(self.model, watched) as trace:
            for at in chunks(self.model, rows.tokens):
                logits = _centered(self.model(rows.tokens[at].to(device)).logits.float())
                stream = trace[self.last].values.float()
                scale, center = scale_of(self.model, logits, stream)
                parts = {}
                for name, directions in self.write.items():
                    written = written_by(trace[name], directions)
                    parts[name] = scale * direct(self.model, written, center=center)
                yield Split(at, logits, parts)


def written_by(
    acts: Activations, directions: Float[Tensor, "unit d_model"]
) -> Float[Tensor, "row column d_model"]:
    """Σ activation · direction over the units of a site."""
    directions = directions.float()
    if not acts.is_sparse:
        return acts.values.float() @ directions
    values, units = acts.values.float().flatten(0, 1), acts.indices.long().flatten(0, 1)
    at_once = max(1, NUMBERS // max(1, values.shape[1] * directions.shape[1]))
    pieces = [
        # An empty slot has value 0, whatever unit stands there.
        torch.einsum("ts,tsd->td", v, directions[u.clamp(min=0)])
        for v, u in zip(values.split(at_once), units.split(at_once), strict=True)
    ]
    return torch.cat(pieces).view(*acts.values.shape[:2], -1)


def direct(model: nn.Module, vectors: Tensor, *, center: bool) -> Tensor:
    """What vectors in the stream `(row, column, d_model)` add to the logits, the scale aside.

    `center`: the final norm takes the mean over channels away.
    """
    if center:
        vectors = vectors - vectors.mean(-1, keepdim=True)
    added = model.direct_logits(vectors.flatten(0, 1))
    return _centered(added.float()).view(*vectors.shape[:2], -1)


def scale_of(model: nn.Module, logits: Tensor, stream: Tensor) -> tuple[Tensor, bool]:
    """The factor `(row, column, 1)` between the last stream's direct part and the logits.

    The norm's scale, where the head reads the stream through a norm and nothing else. Also whether
    the norm centers: whichever of the two explains the logits better.
    """
    best = None
    for center in (False, True):
        whole = direct(model, stream, center=center)
        factor = (logits * whole).sum(-1, keepdim=True) / whole.square().sum(-1, keepdim=True)
        factor = factor.nan_to_num(0.0)
        error = float((logits - factor * whole).square().sum())
        if best is None or error < 0.99 * best[0]:
            best = error, factor, center
    return best[1], best[2]


def _centered(logits: Tensor) -> Tensor:
    """Softmax sees no constant, so that none counts."""
    return logits - logits.mean(-1, keepdim=True)
