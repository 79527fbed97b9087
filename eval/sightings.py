"""Who was active where, and examples of it, once each unit's threshold is known."""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from pellucid.eval.activity import Activity
from pellucid.eval.contexts import Contexts
from pellucid.eval.harvest import Harvest
from pellucid.eval.moments import Moments
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
    activity: dict[str, Activity] = {}
    contexts: dict[str, Contexts] = {}
    for name, site in sites.items():
        threshold = moments[name].threshold(signed=site.signed)
        activity[name] = Activity(threshold, stream.n_documents)
        if shown:
            about = {"shown": shown, "context": context, "seed": seed}
            contexts[name] = Contexts(moments[name], threshold, stream, **about)
        for first, last in spans(harvest[name], context):
            acts = harvest[name].activations(first, last)
            activity[name].add(acts, stream.document[first:last])
            if shown:
                contexts[name].add(first, acts)
    return Sightings(activity, contexts, perf_counter() - start)


def spans(kept: Harvest, context: int) -> list[tuple[int, int]]:
    """Stretches of whole rows, (first, last + 1), that fit memory when they are looked at."""
    most = CHUNK_TOKENS if kept.sparse else min(CHUNK_TOKENS, NUMBERS // kept.n_units)
    size = max(1, most // context) * context
    edges = np.append(np.arange(0, kept.n_tokens, size), kept.n_tokens).tolist()
    return list(pairwise(edges))
