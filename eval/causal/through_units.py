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

TOKENS = 256
"""Tokens whose logits are taken apart at once, at most. PyTorch's sums over rows carry after as many
on a processor, so that pieces usually add up to the sum of all to the last digit."""
NUMBERS = 2**22
"""Logits taken apart at once, and numbers gathered at once where units are sparse."""


class Split(NamedTuple):
    """Logits of some tokens, `(token, vocab)`."""

    at: slice
    """which of the tokens that count"""
    logits: Tensor
    parts: Iterator[tuple[str, Tensor]]
    """what the units of each site write to them; each is made when its turn comes, once"""


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
        """The logits of the tokens that count, some at a time, centered over the vocabulary."""
        device, first = next(self.model.parameters()).device, 0
        # The last stream can be a scored site itself.
        watched = tuple(dict.fromkeys([*self.write, self.last]))
        with record(self.model, watched) as trace:
            for at in chunks(self.model, rows.tokens):
                logits = self.model(rows.tokens[at].to(device)).logits.flatten(0, 1)
                stream = trace[self.last].values.flatten(0, 1)
                scale, center = scale_of(self.model, logits, stream)
                written = {name: written_by(trace[name], d) for name, d in self.write.items()}
                written = {name: vectors.flatten(0, 1) for name, vectors in written.items()}
                counted = torch.from_numpy(rows.scored[at].ravel()).to(device).nonzero()[:, 0]
                for here in counted.split(at_once(logits)):
                    some = {name: vectors[here] for name, vectors in written.items()}
                    parts = self._parts(some, scale[here], center)
                    yield Split(slice(first, first + len(here)), _centered(logits[here]), parts)
                    first += len(here)
                # Before the model makes the next.
                del logits

    @torch.no_grad()
    def _parts(
        self, written: dict[str, Tensor], scale: Tensor, center: bool
    ) -> Iterator[tuple[str, Tensor]]:
        for name, vectors in written.items():
            yield name, scale * direct(self.model, vectors, center=center)


def at_once(logits: Float[Tensor, "token vocab"]) -> int:
    """Tokens that are taken apart at once."""
    return max(1, min(TOKENS, NUMBERS // logits.shape[1]))


def written_by(
    acts: Activations, directions: Float[Tensor, "unit d_model"]
) -> Float[Tensor, "row column d_model"]:
    """Σ activation · direction over the units of a site."""
    directions = directions.float()
    if not acts.is_sparse:
        return acts.values.float() @ directions
    values, units = acts.values.float().flatten(0, 1), acts.indices.long().flatten(0, 1)
    some = max(1, NUMBERS // max(1, values.shape[1] * directions.shape[1]))
    pieces = [
        # An empty slot has value 0, whatever unit stands there.
        torch.einsum("ts,tsd->td", v, directions[u.clamp(min=0)])
        for v, u in zip(values.split(some), units.split(some), strict=True)
    ]
    return torch.cat(pieces).view(*acts.values.shape[:2], -1)


def direct(
    model: nn.Module, vectors: Float[Tensor, "token d_model"], *, center: bool
) -> Float[Tensor, "token vocab"]:
    """What vectors in the stream add to the logits, the scale aside.

    `center`: the final norm takes the mean over channels away.
    """
    if center:
        vectors = vectors - vectors.mean(-1, keepdim=True)
    return _centered(model.direct_logits(vectors))


def scale_of(
    model: nn.Module, logits: Float[Tensor, "token vocab"], stream: Float[Tensor, "token d_model"]
) -> tuple[Float[Tensor, "token 1"], bool]:
    """The factor between the last stream's direct part and the logits.

    The norm's scale, where the head reads the stream through a norm and nothing else. Also whether
    the norm centers: whichever of the two explains the logits better.
    """
    best, some = None, at_once(logits)
    for center in (False, True):
        factors, error = [], 0.0
        for these, vectors in zip(logits.split(some), stream.split(some), strict=True):
            whole = direct(model, vectors.float(), center=center)
            factor, missed = _fitted(_centered(these), whole)
            factors.append(factor)
            error += missed
        if best is None or error < 0.99 * best[0]:
            best = error, torch.cat(factors), center
    return best[1], best[2]


def _fitted(logits: Tensor, whole: Tensor) -> tuple[Tensor, float]:
    """By what factor the one is the other, and the squares that are missed by it."""
    factor = (logits * whole).sum(-1, keepdim=True) / whole.square().sum(-1, keepdim=True)
    factor = factor.nan_to_num(0.0)
    return factor, float((logits - factor * whole).square().sum())


def _centered(logits: Tensor) -> Tensor:
    """Softmax sees no constant, so that none counts."""
    logits = logits.float()
    return logits - logits.mean(-1, keepdim=True)
