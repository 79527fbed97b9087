"""Scores for a terminal."""

from collections.abc import Sequence

from rich.table import Table

from pellucid.eval.score import AS_WELL, NO_VALUE, Score


def table(scores: Sequence[Score], *, test_openings: int = 0) -> Table:
    """One line a score: value, interval, and those controls that have a value.

    A value that a control reaches is marked, and the line says which.
    """
    shown = Table(title="scores", title_justify="left", caption=_opened(test_openings))
    for name in ("metric", "site"):
        shown.add_column(name)
    for name in ("value", "95 % interval"):
        shown.add_column(name, justify="right")
    shown.add_column("controls")
    for score in scores:
        shown.add_row(
            score.metric, score.site or "", _value(score), _interval(score), _controls(score)
        )
    return shown


def _value(score: Score) -> str:
    """The value, or a dash for none; marked where a control scores as well."""
    return _short(score.value) + (" !" if _as_good(score) else "")


def _controls(score: Score) -> str:
    """Values of the controls, then what must be said of the score."""
    held = {n: v for n, v in score.controls.items() if isinstance(v, float)}
    told = [flag for flag in score.flags if flag.startswith(NO_VALUE)] + _as_good(score)
    return "\n".join([", ".join(f"{name} {_short(v)}" for name, v in held.items()), *told]).strip()


def _as_good(score: Score) -> list[str]:
    return [flag for flag in score.flags if flag.startswith(AS_WELL)]


def _opened(times: int) -> str:
    """How often the test split has been opened for this run."""
    counted = {0: "never", 1: "once"}.get(times, f"{times} times")
    return f"the test split of this run has been opened {counted}"


def _interval(score: Score) -> str:
    return "" if score.low is None else f"{_short(score.low)} … {_short(score.high)}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
