"""Units that no layer has: made from what a model did on a stream, and scored like a layer's own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from pellucid.eval.harvest import About, Harvest
from pellucid.eval.moments import Moments
from pellucid.eval.processes import each
from pellucid.eval.reader import Predictions, Reader
from pellucid.eval.scratch import Scratch
from pellucid.eval.sightings import Sightings, sight, spans
from pellucid.eval.stream import Stream
from pellucid.kernels import topk_rows
from pellucid.models import UnitSite

if TYPE_CHECKING:
    from pellucid.eval.elsewhere import Sent

NUMBERS = 2**23
"""Activations made at once."""

Directions = Float[np.ndarray, "unit d_model"] | None
UNSEEN = "no site of the model shows what this layer reads"


@dataclass(frozen=True)
class Source:
    """What the units that stand for a site's are made from, in this process or in another."""

    kept: Harvest
    """what the site's units did"""
    seen: Harvest | str
    """the vectors that the site's layer reads, or why they are not known"""
    signed: bool
    write: Directions
    stream: Stream
    scratch: Scratch = field(default_factory=Scratch)
    """where what is made is kept"""

    @classmethod
    def of(cls, reader: Reader, name: str) -> "Source":
        site, place, read = reader.sites()[name], reader.input_of(name), reader.end_to_end
        write = site.write_directions()
        return cls(
            kept=reader.harvest[name],
            seen={**read.inputs, **read.harvest}.get(place, UNSEEN) if place else UNSEEN,
            signed=site.signed,
            write=None if write is None else write.detach().float().cpu().numpy(),
            stream=reader.stream,
        )

    def harvest(self, about: About | None = None, *, sparse: bool) -> Harvest:
        """A harvest of made units, which are as many as the site's unless something else is said."""
        return Harvest(about or like(self.kept), sparse=sparse, scratch=self.scratch)


@dataclass(frozen=True)
class Made:
    """The made units of one site: what they did, and what they read and write where that is known."""

    harvest: Harvest
    write: Directions = None
    read: Directions = None
    remark: str = ""
    """what a number about them needs to say, as a sentence"""

    def site(self, name: str) -> UnitSite:
        """A site that shows them under the name of the site they stand for; no model has it."""
        about = self.harvest.about
        write, read = (None if d is None else torch.from_numpy(d) for d in (self.write, self.read))
        site = UnitSite(
            about.kind,
            about.n_units,
            signed=about.signed,
            exactness="none",
            write=None if write is None else lambda: write,
            read=None if read is None else lambda: read,
        )
        site.name, site.layer = name, about.layer
        return site


@dataclass
class MadeUnits:
    """A reader's stand-in whose units are made; its predictions are those of the model itself."""

    source: Reader
    """the model that was recorded"""
    make: Callable[[Source], Made | str]
    """the units that stand for those of a site, or why there are none"""
    label: str = ""
    _made: dict[str, Made | str] = field(default_factory=dict)

    @property
    def model(self) -> torch.nn.Module:
        """The model that was recorded: what is made can be read, but not edited."""
        return self.source.model

    @property
    def sent(self) -> "Sent | None":
        return self.source.sent

    @property
    def stream(self) -> Stream:
        return self.source.stream

    @property
    def context(self) -> int:
        return self.source.context

    def _all(self) -> dict[str, Made | str]:
        if not self._made:
            sources = {name: Source.of(self.source, name) for name in self.source.sites()}
            jobs = [partial(self.make, source) for source in sources.values()]
            for several in self.source.track([jobs], self.label + "making units", 1):
                self._made = dict(zip(sources, each(several), strict=True))
            for name, made in self._made.items():
                if isinstance(made, Made):
                    # What comes from another process knows the path alone.
                    made.harvest.scratch = sources[name].scratch
        return self._made

    def sites(self) -> dict[str, UnitSite]:
        """The sites that have made units, by the names of those they stand for."""
        made = self._all()
        return {name: m.site(name) for name, m in made.items() if isinstance(m, Made)}

    @property
    def reasons(self) -> dict[str, str]:
        """Why a site has none."""
        return {name: made for name, made in self._all().items() if isinstance(made, str)}

    @property
    def remarks(self) -> dict[str, str]:
        """What needs to be said of the made units of a site, where something does."""
        return {n: m.remark for n, m in self._all().items() if isinstance(m, Made) and m.remark}

    @property
    def harvest(self) -> dict[str, Harvest]:
        """What every made unit did on the stream, by site."""
        return {name: m.harvest for name, m in self._all().items() if isinstance(m, Made)}

    @cached_property
    def end_to_end(self) -> Predictions:
        """The model's own predictions, and the moments of the made units."""
        read = self.source.end_to_end
        jobs = [partial(_moments, kept, self.context) for kept in self.harvest.values()]
        moments = dict(zip(self.harvest, each(jobs), strict=True))
        return Predictions(read.bits, moments, self.harvest, read.seconds, read.inputs)

    @cached_property
    def sightings(self) -> Sightings:
        """Who was active where; no contexts are kept."""
        about = {"context": self.context, "shown": 0, "seed": 0}
        moments = self.end_to_end.moments
        return sight(self.sites(), moments, self.harvest, self.stream, **about)


def _moments(kept: Harvest, context: int) -> Moments:
    found = Moments(kept.n_units)
    for first, last in spans(kept, context):
        found.add(kept.activations(first, last))
    return found


def like(kept: Harvest, n_units: int | None = None, *, signed: bool | None = None) -> About:
    """What is known of units that stand for those of a harvest."""
    old = kept.about
    return About(
        n_units=old.n_units if n_units is None else n_units,
        signed=old.signed if signed is None else signed,
        kind=old.kind,
        layer=old.layer,
    )


def pieces(kept: Harvest) -> list[tuple[int, int]]:
    """Stretches of tokens, (first, last + 1), whose activations of all units fit memory."""
    size = max(1, NUMBERS // kept.n_units)
    edges = np.append(np.arange(0, kept.n_tokens, size), kept.n_tokens).tolist()
    return list(pairwise(edges))


def largest(
    rows: Float[Tensor, "token unit"], counts: Integer[np.ndarray, " token"], *, signed: bool
) -> tuple[Float[Tensor, "token slot"], Integer[Tensor, "token slot"]]:
    """Values and units of what `strongest` keeps: the unit of a slot that is not used is -1."""
    most = max(int(counts.max(initial=0)), 1)
    values, units = topk_rows(rows, most, signed=signed, relu=not signed)
    few = np.flatnonzero(counts < most)
    if len(few):
        order = values[few].abs().argsort(dim=1, descending=True, stable=True)
        left = torch.from_numpy(np.arange(most) >= counts[few, None])
        out = torch.zeros_like(left).scatter_(1, order, left)
        values[few] = values[few].masked_fill(out, 0)
        units[few] = units[few].masked_fill(out, -1)
    return values, units


def strongest(
    rows: Float[Tensor, "token unit"], counts: Integer[np.ndarray, " token"], *, signed: bool
) -> Float[Tensor, "token unit"]:
    """Of each row its `counts` largest entries, by magnitude where units are signed.

    Units without a sign keep their positive part alone, so that fewer may be left of them.
    """
    rows = rows if signed else rows.clamp_min(0)
    most = int(counts.max(initial=0))
    if most == rows.shape[1] and (counts == most).all():
        return rows
    _, places = (rows.abs() if signed else rows).topk(most, dim=1)
    kept = torch.arange(most) < torch.from_numpy(np.asarray(counts))[:, None]
    values = torch.where(kept, rows.gather(1, places), 0)
    return torch.zeros_like(rows).scatter_(1, places, values)
