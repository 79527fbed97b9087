"""Scores for a terminal."""

from collections.abc import Sequence

from rich.table import Table

from pellucid.eval.score import Score


def table(scores: Sequence[Score]) -> Table:
    """One line a score: value, interval, and those controls that have a value."""
    shown = Table(title="scores", title_justify="left")
    for name in ("metric", "site"):
        shown.add_column(name)
    for name in ("value", "95 % interval"):
        shown.add_column(name, justify="right")
    shown.add_column("controls")
    for score in scores:
        held = {n: v for n, v in score.controls.items() if isinstance(v, float)}
        controls = ", ".join(f"{name} {_short(value)}" for name, value in held.items())
        shown.add_row(
            score.metric, score.site or "", _short(score.value), _interval(score), controls
        )
    return shown


def _interval(score: Score) -> str:
    return "" if score.low is None else f"{_short(score.low)} … {_short(score.high)}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
