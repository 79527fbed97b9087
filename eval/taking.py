"""Taking metrics of a run: what is refused, and what becomes of a metric that cannot be taken."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pellucid.errors import RunError
from pellucid.eval.families import FAMILY, used
from pellucid.eval.refusals import refusal, watched
from pellucid.eval.score import NO_VALUE, NoValue, Score
from pellucid.eval.suite import METRICS, Metric
from pellucid.eval.workbench import Workbench
from pellucid.training.seen import seen

if TYPE_CHECKING:
    from pellucid.run import Run


def permitted(
    run: "Run", metrics: Mapping[str, Metric], *, split: str, by_name: bool
) -> dict[str, Metric]:
    """The metrics, with a refusal in place of each that the run has been trained or chosen by.

    Scores of units that a loss of the training saw say so, and of a run that was chosen by the
    held-out loss those that are it have no value. Raises RunError with the reason where metrics
    were asked for by name.
    """
    found = _with_loss(seen(run.folder))
    allowed = {}
    for name, metric in metrics.items():
        uses = (f"{split}:{name}", *used(metric.uses, split))
        reason = refusal(found, name, metric.measure.__module__, uses)
        if reason and by_name:
            raise RunError(f"refused: {reason}")
        allowed[name] = _refused(metric, reason) if reason else _told(metric, found, split)
    return allowed


def _with_loss(found: dict[str, str]) -> dict[str, str]:
    """What was seen; the held-out loss too, where it chose the run under any of its names."""
    also = [name for name, metric in METRICS.items() if "loss" in metric.uses]
    also += [name for metric in METRICS.values() for name in metric.loss]
    for split, family in FAMILY.items():
        for name in also:
            if reason := found.get(f"{split}:{name}") or found.get(name):
                found = {f"loss:{family}": reason} | found
    return found


def taken(bench: Workbench, name: str, metric: Metric) -> list[Score]:
    """The scores of one metric; one without a value where it raises NoValue."""
    try:
        return metric.measure(bench)
    except NoValue as reason:
        return [
            Score(
                metric=name,
                split=bench.split,
                value=None,
                n=0,
                seconds=0.0,
                tokens=len(bench.stream.tokens),
                flags=(NO_VALUE + str(reason), *bench.stream.flags),
            )
        ]


def _refused(metric: Metric, reason: str) -> Metric:
    def refuse(bench: Workbench) -> list[Score]:
        raise NoValue(f"refused: {reason}")

    return metric._replace(measure=refuse)


def _told(metric: Metric, found: Mapping[str, str], split: str) -> Metric:
    def measure(bench: Workbench) -> list[Score]:
        scores = [_withheld(s, metric, found, split) for s in metric.measure(bench)]
        return [replace(s, flags=(*s.flags, *watched(found, s.site))) for s in scores]

    return metric._replace(measure=measure) if found else metric


def _withheld(score: Score, metric: Metric, found: Mapping[str, str], split: str) -> Score:
    """A score, without what is the loss that chose the run: its value, or controls beside it."""
    lost = {}
    for name in metric.loss:
        if name == score.metric or name in score.controls:
            lost[name] = refusal(found, name, "", used(("loss",), split))
    lost = {name: f"refused: {reason}" for name, reason in lost.items() if reason}
    if score.metric not in lost:
        return replace(score, controls=score.controls | lost)
    empty = {"value": None, "low": None, "high": None, "n": 0, "controls": {}}
    return replace(score, flags=(NO_VALUE + lost[score.metric],), **empty)
