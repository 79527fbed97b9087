"""Every arm of a comparison tuned with the same budget: which runs to try, and which was best.

The learning rate is searched on a grid of factors of two, extended while the best lies at an edge;
then, at the best rate, the values of one dial that is the arm's own. A run is judged by validation
bits per byte on seeds that are not reported; one that diverged is worse than any other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isclose
from typing import NamedTuple

from pellucid.errors import UserError
from pellucid.settings.kinds import doubled, is_list, nearest, shown
from pellucid.sweep.fitted import RATE

POINTS = 4
"""Learning rates that a search has at least."""
FIELDS = ("train.lr", "train.muon_lr")
BUDGET = ("train.steps", "train.batch", "context", "steps", "batch", "kl_steps")
"""Fields of models and of coders by which one trial would have more than another."""
SEED = "seed"
METRIC, SPLIT = "bits_per_byte", "val"
SELECTED_BY = (f"{SPLIT}:{METRIC}",)
"""What a tuned run's manifest says it was chosen by: on that split it is no evaluation of it, nor is
the same loss under the other names that the table of metrics declares."""


class TuningError(UserError):
    """A search that contradicts itself or its grid."""


class Point(NamedTuple):
    """What one trial of an arm is told."""

    rate: float
    dial: str = ""


Curve = Mapping[Point, float | None]
"""Mean bits per byte of what was tried; None where a seed diverged."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The search that every arm of a grid goes through. Raises TuningError."""

    rates: Sequence[float] = (7.5e-4, 1.5e-3, 3e-3, 6e-3)
    """each twice the one before"""
    seeds: Sequence[int] = (1000,)
    """disjoint from the grid's, which are reported"""
    words: str = ""
    """changes of the trials alone, such as train.steps=500"""
    dials: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """by a value of an axis, or a baseline's name: other words, all of one field, that its arms may
    choose"""
    name: str = "train.lr"
    """the field that is searched"""
    extensions: int = 4
    """rates tried beyond either edge, at most"""

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.name not in FIELDS:
            raise TuningError(f"tune.name is {self.name!r}; {' or '.join(FIELDS)} is accepted")
        if len(self.rates) < POINTS or not doubled(self.rates):
            raise TuningError(
                f"tune.rates are {tuple(self.rates)}; {POINTS} or more rates above 0 are accepted, "
                f"each twice the one before"
            )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise TuningError(f"tune.seeds are {tuple(self.seeds)}; different ones are accepted")
        if taken := sorted(_fields(self.words) & {self.name, SEED}):
            raise TuningError(
                f"tune.words set {taken[0]}, which the search chooses; other fields are accepted"
            )
        for value, words in self.dials.items():
            self._check_dial(value, words)

    def _check_kinds(self) -> None:
        whole = lambda numbers: is_list(numbers, int) and all(number >= 0 for number in numbers)
        kinds = {
            "rates": (is_list(self.rates, int | float), "numbers in a list are"),
            "seeds": (whole(self.seeds), "whole numbers from 0 in a list are"),
            "words": (isinstance(self.words, str), "a text is"),
            "dials": (isinstance(self.dials, Mapping), "lists of words by name are"),
            "extensions": (whole([self.extensions]), "a whole number from 0 is"),
        }
        for name, (fits, accepted) in kinds.items():
            if not fits:
                raise TuningError(
                    f"tune.{name} is {shown(getattr(self, name))}; {accepted} accepted"
                )

    def _check_dial(self, value: str, words: Sequence[str]) -> None:
        """Refuse what is more than one dial, or would give its arms more than the others have."""
        if not is_list(words, str) or not words or not all(map(str.split, words)):
            raise TuningError(
                f"tune.dials, {value!r}: {words!r} is not accepted; a list of words other than "
                f"the arm's own is"
            )
        fields = sorted(_fields(" ".join(words)))
        if len(fields) > 1:
            raise TuningError(
                f"tune.dials, {value!r}: {' and '.join(fields)} are set; one field is accepted"
            )
        if {*fields} & {*BUDGET, SEED, RATE, self.name, *_fields(self.words)}:
            raise TuningError(
                f"tune.dials, {value!r}: {fields[0]} is not accepted, for it is the same in all arms, "
                f"or searched in all; another field is"
            )

    def dial_of(self, values: Mapping[str, str]) -> Sequence[str]:
        """What else an arm may be told; raises TuningError where two dials claim it."""
        found = [value for value in values.values() if value in self.dials]
        if len(found) > 1:
            raise TuningError(
                f"tune.dials: {found[0]!r} and {found[1]!r} meet in one arm; at most one dial each"
            )
        return self.dials[found[0]] if found else ()


def disjoint(tuning: Tuning, reported: Sequence[int]) -> None:
    """Raise TuningError where a seed that is tuned on is also reported."""
    if both := sorted(set(tuning.seeds) & set(reported)):
        raise TuningError(
            f"tune.seeds and seeds share {', '.join(map(str, both))}: a seed that chose the learning "
            f"rate cannot be reported; give seeds that the grid does not report"
        )


def check_dials(tuning: Tuning, names: Sequence[str]) -> None:
    """Raise TuningError for a dial of something else than `names`: nobody would turn it."""
    if strange := [value for value in tuning.dials if value not in names]:
        raise TuningError(
            f"tune.dials name {strange[0]!r}, which is no value of an axis and no baseline"
            f"{nearest(strange[0], names)}"
        )


def wanted(curve: Curve, tuning: Tuning, dial: Sequence[str] = ()) -> list[Point]:
    """What must be tried next; nothing once the search is over."""
    rates = [Point(rate) for rate in tuning.rates if Point(rate) not in curve]
    if rates:
        return rates
    if beyond := _beyond(curve, tuning):
        return [beyond]
    best = chosen({point: bits for point, bits in curve.items() if not point.dial})
    if best is None:
        return []
    return [p for words in dial if (p := Point(best.rate, words)) not in curve]


def chosen(curve: Curve) -> Point | None:
    """The best point, of equal ones that with the lower rate; None where all diverged."""
    best = min(curve, key=lambda p: (_bits(curve[p]), p.rate, p.dial), default=None)
    return None if best is None or curve[best] is None else best


def at_edge(curve: Curve) -> bool:
    """Whether the best rate is the lowest or highest tried: a better one may lie beyond."""
    tried = {point: bits for point, bits in curve.items() if not point.dial}
    best, rates = chosen(tried), sorted(point.rate for point in tried)
    return best is None or best.rate in (rates[0], rates[-1])


def _beyond(curve: Curve, tuning: Tuning) -> Point | None:
    """The next rate beyond the edge at which the best lies; below, where all diverged."""
    tried = {point: bits for point, bits in curve.items() if not point.dial}
    rates = sorted(point.rate for point in tried)
    best = chosen(tried)
    if best is None or best.rate == rates[0]:
        below = sum(rate < tuning.rates[0] and not isclose(rate, tuning.rates[0]) for rate in rates)
        return Point(rates[0] / 2) if below < tuning.extensions else None
    if best.rate == rates[-1]:
        above = sum(rate > tuning.rates[-1] for rate in rates)
        return Point(rates[-1] * 2) if above < tuning.extensions else None
    return None


def _fields(words: str) -> set[str]:
    """The fields that words set, in whichever layers."""
    paths = [word.partition("=")[0].removeprefix("model.") for word in words.split()]
    return {re.sub(r"@[^.]*", "", path) for path in paths}


def _bits(bits: float | None) -> float:
    return inf if bits is None else bits
