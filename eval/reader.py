"""A model reading held-out text, in passes that all metrics share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from pellucid.errors import RunError
from pellucid.eval.activity import Activity
from pellucid.eval.contexts import Contexts
from pellucid.eval.harvest import About, Harvest
from pellucid.eval.moments import Moments
from pellucid.eval.stream import Stream, Window, batches, chunk_rows, walk
from pellucid.models import UnitSite

LN2 = float(np.log(2.0))

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Passes an iterable on, showing its progress; told a description and a length."""


class Predictions(NamedTuple):
    """Bits that each position of a stream cost, and the moments recorded on the way."""

    bits: Float[np.ndarray, " token"]
    moments: dict[str, Moments]
    harvest: dict[str, Harvest]
    seconds: float


class Sightings(NamedTuple):
    """Who was active where, and examples of it, by site."""

    activity: dict[str, Activity]
    contexts: dict[str, Contexts]
    seconds: float


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

    def sites(self) -> dict[str, UnitSite]:
        """The sites whose units are scored: those of the feed-forward halves."""
        return {name: site for name, site in self.model.sites().items() if site.kind == "mlp"}

    @cached_property
    def end_to_end(self) -> Predictions:
        """First pass, rows end to end: bits, and the moments of every unit."""
        return self._predict("reading", self.context, tuple(self.sites()))

    @property
    def harvest(self) -> dict[str, Harvest]:
        """What every unit did on the stream, by site, kept in the first pass."""
        return self.end_to_end.harvest

    @cached_property
    def overlapping(self) -> Predictions:
        """Rows that overlap by half; nothing is recorded."""
        return self._predict("reading overlapping rows", max(1, self.context // 2), ())

    @cached_property
    def sightings(self) -> Sightings:
        """Second pass, now that each unit's threshold is known."""
        moments = self.end_to_end.moments
        start, activity, contexts = perf_counter(), {}, {}
        for name, site in self.sites().items():
            threshold = moments[name].threshold(signed=site.signed)
            activity[name] = Activity(threshold, self.stream.n_documents)
            if self.shown:
                contexts[name] = Contexts(
                    moments[name],
                    threshold,
                    self.stream,
                    shown=self.shown,
                    context=self.context,
                    seed=self.seed,
                )
        for window in self._windows("watching units", tuple(activity), self.context):
            document = self.stream.document[window.positions.ravel()]
            for name, counts in activity.items():
                counts.add(window.trace[name], document)
            for name, collected in contexts.items():
                collected.add(window, window.trace[name])
        return Sightings(activity, contexts, perf_counter() - start)

    def _predict(self, what: str, stride: int, sites: tuple[str, ...]) -> Predictions:
        start, targets = perf_counter(), torch.from_numpy(self.stream.targets())
        bits = np.full(len(targets), np.nan)
        moments = {name: Moments(self.sites()[name].n_units) for name in sites}
        harvest: dict[str, Harvest] = {}
        for window in self._windows(what, sites, stride):
            _score(window, targets, bits)
            if not np.isfinite(bits[window.positions]).all():
                raise RunError("the model predicts NaN, which cannot be scored: try another step")
            for name, kept in moments.items():
                kept.add(window.trace[name])
                self._open(harvest, name, window).add(window.trace[name])
        for kept in harvest.values():
            kept.close()
        return Predictions(bits, moments, harvest, perf_counter() - start)

    def _open(self, harvest: dict[str, Harvest], name: str, window: Window) -> Harvest:
        """The harvest of a site, begun with the first chunk, which shows how the site is kept."""
        if name not in harvest:
            site = self.sites()[name]
            about = About(
                n_units=site.n_units, signed=site.signed, kind=site.kind, layer=site.layer
            )
            harvest[name] = Harvest(about, sparse=window.trace[name].is_sparse)
        return harvest[name]

    def _windows(self, what: str, sites: tuple[str, ...], stride: int) -> Iterable[Window]:
        rows = chunk_rows(self.model, self.context, sites)
        count = sum(1 for _ in batches(len(self.stream.tokens), self.context, stride, rows))
        passes = walk(self.model, self.stream, context=self.context, stride=stride, sites=sites)
        return self.track(passes, self.label + what, count)


def _score(window: Window, targets: torch.Tensor, bits: np.ndarray) -> None:
    """Write the bits of those positions that no earlier row has predicted."""
    fresh = np.arange(window.length) >= window.fresh[:, None]
    at = window.positions[fresh]
    logits = window.logits[torch.from_numpy(fresh).to(window.logits.device)].float()
    nats = F.cross_entropy(logits, targets[at].to(logits.device), reduction="none")
    bits[at] = nats.double().cpu().numpy() / LN2
