"""What stands beside label scores: floors, the probe, and the same choice under permuted labels.

Where one of them does not exist, its place holds the reason.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from pellucid.eval.bootstrap import Interval
from pellucid.eval.concepts.between import share
from pellucid.eval.concepts.by_label import PICKED, ByLabel
from pellucid.eval.concepts.given import FEW, Given
from pellucid.eval.concepts.levels import What
from pellucid.eval.concepts.metrics import by_site, gained
from pellucid.eval.concepts.null import permutation_null, permuted_f1s
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.controls import CEILING, Found, System
from pellucid.eval.score import NO_INTERVAL, NoValue

Labels = Float[np.ndarray, " label"]
Beside = Callable[[Given], dict[str, Found]]
Measured = Callable[[System, Given, Truth], Found]
"""A measure of a system's units against labels, which may be permuted ones."""
Whole = Callable[[Given, str, Labels], float]
"""One number of a site out of one of each label."""

FLOORS = ("always_on", "token_only", "five_gram", "best")
PROBE, NULL = f"{CEILING}_probe", "permutation_null"
REFERENCE = NO_INTERVAL + "a reference"


def mean_of(shared: Given, site: str, values: Labels) -> float:
    """The mean of the labels that have a number."""
    if not np.isfinite(values).any():
        raise NoValue("no label has a value")
    return float(np.nanmean(values))


def gain_of(shared: Given, site: str, values: Labels) -> float:
    """What is gained over the current token."""
    return float(gained(values, shared.levels("f1")["token_only"]).mean())


def share_of(what: What) -> Whole:
    """The share of the way from floor to ceiling."""

    def of(shared: Given, site: str, values: Labels) -> float:
        if site not in (tops := shared.tops(what)):
            raise NoValue("what this layer reads was not kept")
        return share(values, shared.levels(what)["best"], tops[site])

    return of


def levels(shared: Given, what: What, whole: Whole) -> dict[str, Found]:
    """What floors and the probe of each site have on the scale of a score."""
    sites = shared.reader.sites()
    found = {
        f"floor_{name}": {site: _number(whole, shared, site, values) for site in sites}
        for name, values in shared.levels(what).items()
    }
    try:
        tops = shared.tops(what)
    except NoValue as reason:
        return found | {PROBE: dict.fromkeys(sites, _missing(str(reason)))}
    return found | {PROBE: {site: _number(whole, shared, site, tops[site]) for site in tops}}


def null_of_best(shared: Given, whole: Whole) -> dict[str, Found]:
    """95th percentile of what the units best for labels have under permuted ones."""
    about = {"seed": shared.seed}
    permuted_f1s.ahead(shared.reader.harvest.values(), shared.truth, **about)
    found: Found = {}
    for name in shared.reader.harvest:
        of = lambda f1, name=name: whole(shared, name, f1)
        null = lambda kept, of=of: permutation_null(kept, shared.truth, of=of, **about)
        found |= by_site(shared.reader, null, only={name: None})
    return {NULL: found}


def null_of(shared: Given, measured: Measured) -> dict[str, Found]:
    """The highest of what a measure finds under a few permutations of the labels."""
    drawn = [measured(shared.reader, shared, truth) for truth in shared.permuted]
    said = f"the highest of {FEW} permutations"
    found: Found = {}
    for site, first in drawn[0].items():
        values = [one[site].value for one in drawn if one[site].value is not None]
        highest = Interval(max(values), None, None, FEW, (REFERENCE, said)) if values else first
        found[site] = highest
    return {NULL: found}


def of_label_score(scored: ByLabel, measured: Measured, *, between: bool = False) -> Beside:
    """All of them, beside a mean over labels, or beside its share of the way `between`."""
    whole = share_of(scored.what) if between else mean_of

    def beside(shared: Given) -> dict[str, Found]:
        best = scored is PICKED
        null = null_of_best(shared, whole) if best else null_of(shared, measured)
        return levels(shared, scored.what, whole) | null

    return beside


def of_gain(shared: Given) -> dict[str, Found]:
    """All of them, beside what is gained over the current token."""
    return levels(shared, "f1", gain_of) | null_of_best(shared, gain_of)


def reasons(why: str, null: str | Measured) -> Beside:
    """Why there is no floor and no ceiling; the null of a measure, or why there is none."""

    def beside(shared: Given) -> dict[str, Found]:
        none = lambda reason: dict.fromkeys(shared.reader.sites(), _missing(reason))
        found = {name: none(why) for name in (*(f"floor_{name}" for name in FLOORS), PROBE)}
        return found | ({NULL: none(null)} if isinstance(null, str) else null_of(shared, null))

    return beside


def _number(whole: Whole, shared: Given, site: str, values: Labels) -> Interval:
    try:
        return Interval(whole(shared, site, values), None, None, 0, (REFERENCE,))
    except NoValue as reason:
        return _missing(str(reason))


def _missing(reason: str) -> Interval:
    return Interval(None, None, None, 0, (reason,))
