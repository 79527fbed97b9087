"""Metrics that find several numbers at once: a whole, and its parts by name."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pellucid.data.tokenizer import Tokenizer
from pellucid.eval.bootstrap import Interval
from pellucid.eval.controls import NO_PASS, Found, Measure, System, under_controls
from pellucid.eval.score import NO_VALUE, NoValue, Score

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench

Better = Literal["lower", "higher"] | None


def by_part(
    bench: "Workbench",
    metric: str,
    measure: Measure,
    *,
    better: Callable[[str | None], Better],
    references: Mapping[str, Found] | None = None,
    flags: tuple[str, ...] = (),
    tokens: int | None = None,
) -> list[Score]:
    """Scores of what a measure finds, named `metric` for the whole and `metric:part` for a part.

    The measure is taken once of each system, with the parts in the place of sites; `better` says
    of each part which way is better. `flags` are said of the whole. `tokens` were read where that
    was not the stream, of which nothing is then said. Raises NoValue where the measure does.
    """
    scores = []
    for way in ("higher", "lower", None):

        def some(system: System, way: Better = way) -> Found:
            found = bench.once(metric, system, measure)
            return {part: value for part, value in found.items() if better(part) == way}

        if not some(bench.reader):
            continue
        scores += under_controls(
            bench, metric, some, better=way, without=NO_PASS, references=references
        )
    if tokens is not None:
        about = set(bench.stream.flags)
        kept = lambda score: tuple(flag for flag in score.flags if flag not in about)
        scores = [replace(score, tokens=tokens, flags=kept(score)) for score in scores]
    named = [_named(score) for score in scores]
    return [replace(s, flags=(*s.flags, *flags)) if s.metric == metric else s for s in named]


def _named(score: Score) -> Score:
    return (
        score
        if score.site is None
        else replace(score, metric=f"{score.metric}:{score.site}", site=None)
    )


def nothing(reason: str) -> Interval:
    """An interval without a value, and why."""
    return Interval(None, None, None, 0, (NO_VALUE + reason,))


def tokenizer_of(bench: "Workbench") -> Tokenizer:
    """The tokenizer of the run; NoValue where the workbench was given none."""
    if bench.tokenizer is None:
        raise NoValue("texts cannot be written without the tokenizer of the run")
    return bench.tokenizer
