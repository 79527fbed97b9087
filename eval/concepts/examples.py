"""For the report: of each label the units that tell it best and worst, and where they are right.

Units, signs and thresholds were chosen on half A, as for `concept_coverage`; how they do, and the
places that are shown, are of half B. The worst are of the units that fire most often: one that
seldom fires tells no label.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from pellucid.eval.concepts.compared import compared
from pellucid.eval.concepts.given import given
from pellucid.eval.concepts.picks import f1
from pellucid.eval.concepts.resampled import f1s
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.contexts import window
from pellucid.eval.harvest import Harvest
from pellucid.eval.score import NoValue
from pellucid.eval.stream import Stream
from pellucid.eval.workbench import Workbench

BEST, WORST = 3, 2
"""Units shown of each label, over all sites."""
PLACES = {"hit": 2, "false_alarm": 1, "miss": 1}
"""Kinds of places, and how many of each are shown: it fires and the label holds, it fires without
the label, the label holds and it is silent."""
AT_ONCE = 32
"""Units whose activations on all tokens are held at once."""


class Read(NamedTuple):
    """What was read: the text, the tokens of a row, and the seed that draws places."""

    stream: Stream
    context: int
    seed: int


class Chosen(NamedTuple):
    """A unit that is shown of a label: it fires where `sign · value` is above the threshold."""

    label: int
    best: bool
    f1_a: float
    site: str
    unit: int
    sign: int
    threshold: float


def concept_examples(bench: Workbench) -> dict[str, Any]:
    """What `units.json` holds of labels: `{reason, labels: [{label, share, floor, best, worst}]}`.

    A unit has its site, number, sign, threshold, F1, precision and recall on half B, and contexts.
    Where there are no labels, or no unit is ever on, the list is empty and the reason says so.
    """
    try:
        shared = given(bench)
        chosen = _chosen(bench.reader.harvest, shared.truth)
    except NoValue as reason:
        return {"reason": str(reason), "labels": []}
    truth, packed = shared.truth, {}
    read = Read(bench.stream, bench.reader.context, bench.seed)
    for (label, best), unit in _packed(bench.reader.harvest, read, truth, chosen):
        packed.setdefault((label, best), []).append(unit)
    floor = f1s(truth.table(shared.floors.token_only.says))
    found = [
        {
            "label": name,
            "share": float(truth.holds[truth.b, i].mean()),
            "floor": float(floor[i]),
            "best": sorted(packed.get((i, True), []), key=lambda unit: -unit["f1_a"]),
            "worst": sorted(packed.get((i, False), []), key=lambda unit: unit["f1_a"]),
        }
        for i, name in enumerate(truth.names)
    ]
    return {"reason": None, "labels": found}


def _chosen(harvest: Mapping[str, Harvest], truth: Truth) -> list[Chosen]:
    """Of every label the best and the worst units of all sites. Raises NoValue where none is on."""
    compared.ahead(harvest.values(), truth)
    held: dict[tuple[int, bool], list[Chosen]] = {}
    why = NoValue("the model has no site with units of its own")
    for site, kept in harvest.items():
        try:
            found = compared(kept, truth)
        except NoValue as reason:
            why = reason
            continue
        for best, pick, most in ((True, found.leading, BEST), (False, found.trailing, WORST)):
            for rank, label in np.ndindex(pick.unit[:most].shape):
                one = (float(part[rank, label]) for part in (pick.unit, pick.sign, pick.threshold))
                unit, sign, threshold = one
                if np.isfinite(threshold):
                    score = float(pick.f1_a[rank, label])
                    made = Chosen(label, best, score, site, int(unit), int(sign), threshold)
                    held.setdefault((label, best), []).append(made)
    if not held:
        raise why
    order = {True: lambda one: -one.f1_a, False: lambda one: one.f1_a}
    most = {True: BEST, False: WORST}
    return [
        one
        for (_, best), ones in held.items()
        for one in sorted(ones, key=order[best])[: most[best]]
    ]


def _packed(
    harvest: Mapping[str, Harvest], read: Read, truth: Truth, chosen: list[Chosen]
) -> Iterator[tuple[tuple[int, bool], dict[str, Any]]]:
    """The chosen units as the page needs them, by label and kind; a site's values are read once."""
    for site, kept in harvest.items():
        mine = [one for one in chosen if one.site == site]
        units = np.unique([one.unit for one in mine]).astype(np.int64)
        for first in range(0, len(units), AT_ONCE):
            some = units[first : first + AT_ONCE]
            columns = np.ascontiguousarray(kept.columns(some).T)
            for one in mine:
                if one.unit in some:
                    values = columns[np.searchsorted(some, one.unit)]
                    yield (one.label, one.best), _unit(read, truth, one, values)


def _unit(
    read: Read, truth: Truth, one: Chosen, values: Float[np.ndarray, " token"]
) -> dict[str, Any]:
    fires = values * one.sign > one.threshold
    said, held = fires[truth.b], truth.holds[truth.b, one.label]
    hits, alarms, holds = int((said & held).sum()), int(said.sum()), int(held.sum())
    kinds = {"hit": said & held, "false_alarm": said & ~held, "miss": ~said & held}
    label = truth.holds[:, one.label]
    return {
        "site": one.site,
        "unit": one.unit,
        "sign": one.sign,
        "threshold": one.threshold,
        "f1_a": one.f1_a,
        "f1": float(f1(hits, alarms, holds)),
        "precision": hits / alarms if alarms else None,
        "recall": hits / holds,
        "contexts": [
            _context(read, kind, int(place), values, label)
            for kind, at in kinds.items()
            for place in _drawn(truth.b[at], kind, [read.seed, one.label, one.unit])
        ],
    }


def _drawn(
    places: Integer[np.ndarray, " place"], kind: str, seed: list[int]
) -> Integer[np.ndarray, " shown"]:
    """Some of the places: drawn, not the most striking, which would flatter the unit."""
    rng = np.random.default_rng(seed)
    return rng.choice(places, min(PLACES[kind], len(places)), replace=False)


def _context(
    read: Read,
    kind: str,
    position: int,
    values: Float[np.ndarray, " token"],
    label: Bool[np.ndarray, " token"],
) -> dict[str, Any]:
    stream = read.stream
    first, last = window(stream, position, read.context)
    return {
        "kind": kind,
        "document": stream.names[stream.document[position]],
        "tokens": stream.tokens[first:last].tolist(),
        "values": [float(f"{value:.3g}") for value in values[first:last]],
        "holds": [int(held) for held in label[first:last]],
        "center": position - first,
    }
