"""A model reading held-out text, in passes that all metrics share."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from pellucid.errors import RunError
from pellucid.eval.harvest import About, Harvest
from pellucid.eval.moments import Moments
from pellucid.eval.processes import Lost, one_thread
from pellucid.eval.scored import read_by, scored
from pellucid.eval.scratch import Scratch
from pellucid.eval.sightings import Sightings, Track, sight
from pellucid.eval.stream import Stream, Window, batches, chunk_rows, walk
from pellucid.models import UnitSite

if TYPE_CHECKING:
    from pellucid.eval.elsewhere import Sent

LN2 = float(np.log(2.0))


NOT_SCORED = "it cannot be scored; try another step"


class Predictions(NamedTuple):
    """Bits that each position of a stream cost, and the moments recorded on the way."""

    bits: Float[np.ndarray, " token"]
    moments: dict[str, Moments]
    harvest: dict[str, Harvest]
    seconds: float
    inputs: Mapping[str, Harvest] = MappingProxyType({})
    """what the layers of the sites read, by the name of the site that shows it"""


@dataclass
class Reader:
    """A model and the stream it reads in rows of `context` tokens. Passes are kept."""

    model: nn.Module
    stream: Stream
    context: int
    track: Track = lambda items, what, length: items
    shown: int = 0
    """units of each site whose contexts are collected"""
    seed: int = 0
    label: str = ""
    keep_inputs: bool = False
    """keep also what the layers of the sites read, from which competitors are made"""
    elsewhere: dict[str, Callable[[], Predictions]] = field(default_factory=dict)
    """passes that another process makes over the same model, by method; may raise Lost"""
    sent: "Sent | None" = None
    """the model as it is sent to another process, where it can be"""
    remark: str = ""
    """what a number about it as a control needs to say"""
    scratch: Scratch | None = None
    """where harvests are kept, if not in folders of their own"""

    def sites(self) -> dict[str, UnitSite]:
        """The sites whose units are scored."""
        return scored(self.model.sites())

    def input_of(self, name: str) -> str | None:
        """Name of the site that shows what the layer of a scored site reads."""
        return read_by(self.sites()[name], self.model.sites())

    @cached_property
    def end_to_end(self) -> Predictions:
        """The pass over the model, rows end to end: bits, and what every unit did."""
        return self._passed("read_end_to_end")

    @property
    def has_read(self) -> bool:
        """Whether the pass over the model has been made."""
        return "end_to_end" in vars(self)

    def _passed(self, name: str) -> Predictions:
        """What a pass found, in another process or here."""
        here = getattr(self, name)
        if name not in self.elsewhere:
            return here()
        try:
            return self.elsewhere[name]()
        except Lost:
            with one_thread():
                return here()

    def read_end_to_end(self) -> Predictions:
        """Read rows that lie end to end: what `end_to_end` keeps."""
        inputs = {self.input_of(name) for name in self.sites()} if self.keep_inputs else set()
        extra = tuple(sorted(inputs - {None} - set(self.sites())))
        return self._predict(tuple(self.sites()), extra)

    @property
    def harvest(self) -> dict[str, Harvest]:
        """What every unit did on the stream, by site, kept in the first pass."""
        return self.end_to_end.harvest

    @cached_property
    def overlapping(self) -> Predictions:
        """Rows that overlap by half; nothing is recorded.

        The second halves of rows that lie end to end have half a context before them already: only
        rows between them are read, for the first halves of those.
        """
        ended, between = self.end_to_end, self._passed("read_between")
        bits = np.where(np.isnan(between.bits), ended.bits, between.bits)
        return Predictions(bits, {}, {}, ended.seconds + between.seconds)

    def read_between(self) -> Predictions:
        """Read rows between those that lie end to end: bits of their second halves, else NaN."""
        start, targets = perf_counter(), torch.from_numpy(self.stream.targets())
        half, bits = max(1, self.context // 2), np.full(len(targets), np.nan)
        if half < min(self.context, len(bits)):
            for window in self._windows("reading overlapping rows", (), self.context, half):
                fresh = np.full(len(window.starts), self.context - half)
                _charge(window._replace(fresh=fresh), targets, bits)
        return Predictions(bits, {}, {}, perf_counter() - start, {})

    @cached_property
    def sightings(self) -> Sightings:
        """The harvest read again, now that each unit's threshold is known."""
        read = self.end_to_end
        about = {"context": self.context, "shown": self.shown, "seed": self.seed}
        return sight(self.sites(), read.moments, read.harvest, self.stream, **about)

    def _predict(self, sites: tuple[str, ...], inputs: tuple[str, ...]) -> Predictions:
        start, targets = perf_counter(), torch.from_numpy(self.stream.targets())
        bits = np.full(len(targets), np.nan)
        moments = {name: Moments(self.sites()[name].n_units) for name in sites}
        harvest: dict[str, Harvest] = {}
        for window in self._windows("reading", sites + inputs, self.context):
            _charge(window, targets, bits)
            for name in sites + inputs:
                acts = window.trace[name]
                if not acts.values.isfinite().all():
                    raise RunError(f"{name} has activations that are NaN or infinite: {NOT_SCORED}")
                self._open(harvest, name, window).add(acts)
                if name in moments:
                    moments[name].add(acts)
        for kept in harvest.values():
            kept.close()
        read = {name: harvest[name] for name in sites}
        seen = {name: harvest[name] for name in harvest if name not in read}
        return Predictions(bits, moments, read, perf_counter() - start, seen)

    def _open(self, harvest: dict[str, Harvest], name: str, window: Window) -> Harvest:
        """The harvest of a site, begun with the first chunk, which shows how the site is kept."""
        if name not in harvest:
            site = self.model.sites()[name]
            about = About(
                n_units=site.n_units, signed=site.signed, kind=site.kind, layer=site.layer
            )
            sparse = window.trace[name].is_sparse
            harvest[name] = Harvest(about, sparse=sparse, scratch=self.scratch)
        return harvest[name]

    def _windows(
        self, what: str, sites: tuple[str, ...], stride: int, first: int = 0
    ) -> Iterable[Window]:
        rows, n = chunk_rows(self.model, self.context, sites), len(self.stream.tokens) - first
        count = sum(1 for _ in batches(n, self.context, stride, rows))
        about = {"context": self.context, "stride": stride, "sites": sites, "first": first}
        passes = walk(self.model, self.stream, **about)
        return self.track(passes, self.label + what, count)


def _charge(window: Window, targets: torch.Tensor, bits: np.ndarray) -> None:
    """Write the bits of those positions that no earlier row has predicted."""
    fresh = np.arange(window.length) >= window.fresh[:, None]
    at = window.positions[fresh]
    if fresh.all():
        logits = window.logits.flatten(0, 1).float()  # as they lie: a choice would be a copy
    else:
        logits = window.logits[torch.from_numpy(fresh).to(window.logits.device)].float()
    nats = F.cross_entropy(logits, targets[at].to(logits.device), reduction="none")
    bits[at] = nats.double().cpu().numpy() / LN2
    if not np.isfinite(bits[at]).all():
        raise RunError(f"the model predicts NaN: {NOT_SCORED}")
