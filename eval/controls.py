"""Controls: what else the same measure is taken of, beside every number about a run.

A number about interpretability means little alone: networks with random weights, dictionaries that
were never trained, and rotated units score well on many metrics (arXiv 2501.17727, 2602.14111).
Each control is a reader, or something that can be read like one, over the same stream.
"""

from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pellucid.errors import RunError
from pellucid.eval.bases import ica, pca
from pellucid.eval.bootstrap import Interval
from pellucid.eval.dictionary import random_dictionary
from pellucid.eval.made import MadeUnits
from pellucid.eval.reader import Reader
from pellucid.eval.rotation import rotated
from pellucid.eval.score import AS_WELL, NO_VALUE, NoValue, Score
from pellucid.eval.still import still

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench

System = Reader | MadeUnits
Found = Mapping[str | None, Interval]
"""What a measure finds, by site, or under None for the model as a whole."""
Measure = Callable[[System], Found]

MODELS = ("random_twin", "permuted_weights", "dense_neurons")
"""Controls that are models: they predict, and can be edited."""
UNITS = ("rotated_units", "random_dictionary", "pca", "ica")
"""Controls that are units alone, made from what the run's model did; its predictions are theirs."""
CONTROLS = (*MODELS, *UNITS)
FROZEN = "frozen_dictionary"
"""A further model beside post-hoc coders: the same, but with a dictionary that was never fitted."""

CEILING = "ceiling"
"""How names of references begin that a model is not meant to beat."""
NO_DENSE = "no matched dense run was named: eval --dense RUN"
NO_SITES = "the model has no site with units of its own"
NOT_MADE = "not made for this evaluation"
NO_PASS = dict.fromkeys(UNITS, "units made from activations are part of no forward pass")
"""Why a measure of what models predict, or of what is edited in them, is not taken of units alone."""


def made_units(reader: Reader, *, seed: int) -> dict[str, System]:
    """The controls that are made from what a reader's model did, by name; made when first read."""
    makers = {
        "rotated_units": rotated,
        "random_dictionary": random_dictionary,
        "pca": pca,
        "ica": ica,
    }
    return {
        name: MadeUnits(reader, partial(make, seed=seed), label=name.replace("_", " ") + ": ")
        for name, make in makers.items()
    }


def under_controls(
    bench: "Workbench",
    metric: str,
    measure: Measure,
    *,
    better: Literal["lower", "higher"] | None,
    without: Mapping[str, str] = MappingProxyType({}),
    references: Mapping[str, Found] | None = None,
    flags: Mapping[str | None, tuple[str, ...]] | None = None,
) -> list[Score]:
    """Take the same measure of the run and of every control: one score for each site it finds.

    `better` says which way is better, if any: a control that does as well is then named in a flag.
    `without` names controls that the measure is not taken of, with the reason in place of a number.
    `references` are further values to stand beside the run's, such as an n-gram's; `flags` are
    sentences by site, beside the one about a site none of whose units ever moves. A measure looks
    at the sites that a system has (`system.sites()`): controls may lack some. It may raise NoValue
    with a sentence. Raises ValueError where it is not to be taken of the random twin.
    """
    if "random_twin" in without:
        raise ValueError(f"{metric}: random_twin must be among the controls")
    found, seconds = _of_run(bench.reader, measure)
    # A frozen dictionary stands wherever models do.
    names = (*CONTROLS, FROZEN) if FROZEN in bench.controls else CONTROLS
    beside = {
        name: without.get(name) or _measured(bench.controls.get(name, NOT_MADE), measure)
        for name in names
    }
    beside |= references or {}
    sites, said = bench.reader.sites(), _said(bench, found, flags or {})
    about = {"metric": metric, "split": bench.split, "better": better, "seconds": seconds}
    about["tokens"] = len(bench.stream.tokens)
    scores = []
    for site, interval in found.items():
        held = {
            name: _held(other, site, bench.controls.get(name)) for name, other in beside.items()
        }
        known = (
            *as_good(interval, held, better),
            *said[site],
            *_remarks(bench, site, held),
            *bench.stream.flags,
        )
        kind = sites[site].kind if site in sites else None
        more = {"site": site, "unit_family": kind, "controls": held}
        scores.append(Score.of(interval, flags=known, **more, **about))
    return scores


def _of_run(reader: Reader, measure: Measure) -> tuple[Found, float]:
    """What a measure finds of the run, and the seconds of all it rests on.

    Of models alone it may be found where the text has not been read, and need not be.
    """
    start = perf_counter()
    try:
        found = measure(reader) or _nothing(NO_SITES)
    except NoValue as reason:
        found = _nothing(str(reason))
    seconds = perf_counter() - start
    return found, seconds + (reader.end_to_end.seconds if reader.has_read else 0.0)


def _said(
    bench: "Workbench", found: Found, flags: Mapping[str | None, tuple[str, ...]]
) -> dict[str | None, tuple[str, ...]]:
    """The sentences of each site, first that none of its units moves where there is a number."""
    held = {site for site, interval in found.items() if interval.value is not None}
    # A number of the model alone says nothing of layers, and does not need the text to be read.
    unmoved = still(bench.reader) if held & set(bench.reader.sites()) else {}
    return {
        site: ((unmoved[site],) if site in unmoved and site in held else ()) + flags.get(site, ())
        for site in found
    }


def _remarks(
    bench: "Workbench", site: str | None, held: Mapping[str, float | str]
) -> tuple[str, ...]:
    """What needs to be said of controls that hold a number: of a layer's, or of all for the model."""
    found = []
    for name, value in held.items():
        system = bench.controls.get(name)
        if not isinstance(value, float):
            continue
        if isinstance(system, MadeUnits):
            said = system.remarks.items()
            found += [f"{name}: {remark}" for place, remark in said if site in (place, None)]
        elif isinstance(system, Reader) and system.remark:
            found.append(f"{name}: {system.remark}")
    return tuple(dict.fromkeys(found))


def _nothing(reason: str) -> Found:
    return {None: Interval(None, None, None, 0, (NO_VALUE + reason,))}


def _measured(system: System | str, measure: Measure) -> Found | str:
    if isinstance(system, str):
        return system
    try:
        return measure(system)
    except (NoValue, RunError) as reason:
        return str(reason)


def _held(found: Found | str, site: str | None, system: System | str | None) -> float | str:
    """A control's value for a site, or why it has none."""
    if isinstance(found, str):
        return found
    if site not in found:
        reasons = system.reasons if isinstance(system, MadeUnits) else {}
        return reasons.get(site, "it has no such site")
    value, *_, flags = found[site]
    if value is not None:
        return value
    return next((flag.removeprefix(NO_VALUE) for flag in flags), "no reason was given")


def as_good(
    found: Interval, controls: Mapping[str, float | str], better: str | None
) -> tuple[str, ...]:
    """The sentence that is needed where controls score as well as the model.

    A control does as well if its value is inside the model's interval, or beyond it to the better
    side; without an interval the model's value takes its place.
    """
    if found.value is None or better is None:
        return ()
    sign = 1 if better == "higher" else -1
    end = found.low if better == "higher" else found.high
    least = found.value if end is None else end
    equals = [
        f"{name} {value:.4g}"
        for name, value in controls.items()
        if isinstance(value, float) and not name.startswith(CEILING)
        if sign * value >= sign * least
    ]
    return (AS_WELL + ", ".join(equals),) if equals else ()
