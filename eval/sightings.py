"""Who was active where, and examples of it, once each unit's threshold is known."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from pellucid.eval.activity import Activity
from pellucid.eval.contexts import Contexts
from pellucid.eval.harvest import Harvest
from pellucid.eval.moments import Moments
from pellucid.eval.processes import each
from pellucid.eval.stream import CHUNK_TOKENS, Stream
from pellucid.models import UnitSite

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Passes an iterable on, showing its progress; told a description and a length."""
NUMBERS = 2**25
"""Activations of a dense site looked at at once."""


class Sightings(NamedTuple):
    """Who was active where, and examples of it, by site."""

    activity: dict[str, Activity]
    contexts: dict[str, Contexts]
    seconds: float


def sight(
    sites: Mapping[str, UnitSite],
    moments: Mapping[str, Moments],
    harvest: Mapping[str, Harvest],
    stream: Stream,
    *,
    context: int,
    shown: int,
    seed: int,
) -> Sightings:
    """Read harvests again, now that thresholds are known; contexts of `shown` units of each site."""
    start = perf_counter()
    about = {"stream": stream, "context": context, "shown": shown, "seed": seed}
    jobs = [
        partial(_sight, moments[name], harvest[name], signed=site.signed, **about)
        for name, site in sites.items()
    ]
    found = dict(zip(sites, each(jobs), strict=True))
    activity = {name: active for name, (active, _) in found.items()}
    contexts = {name: seen for name, (_, seen) in found.items() if seen is not None}
    for seen in contexts.values():
        # What comes from another process has a copy of the text.
        seen.stream = stream
    return Sightings(activity, contexts, perf_counter() - start)


def _sight(
    moments: Moments,
    harvest: Harvest,
    *,
    signed: bool,
    stream: Stream,
    context: int,
    shown: int,
    seed: int,
) -> tuple[Activity, Contexts | None]:
    """The same of one site."""
    threshold = moments.threshold(signed=signed)
    active, seen = Activity(threshold, stream.n_documents), None
    if shown:
        about = {"shown": shown, "context": context, "seed": seed}
        seen = Contexts(moments, threshold, stream, **about)
    for first, last in spans(harvest, context):
        acts = harvest.activations(first, last)
        active.add(acts, stream.document[first:last])
        if seen is not None:
            seen.add(first, acts)
    return active, seen


def spans(kept: Harvest, context: int) -> list[tuple[int, int]]:
    """Stretches of whole rows, (first, last + 1), that fit memory when they are looked at."""
    most = CHUNK_TOKENS if kept.sparse else min(CHUNK_TOKENS, NUMBERS // kept.n_units)
    size = max(1, most // context) * context
    edges = np.append(np.arange(0, kept.n_tokens, size), kept.n_tokens).tolist()
    return list(pairwise(edges))
