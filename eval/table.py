"""Scores for a terminal."""

from collections.abc import Sequence

from rich.table import Table

from pellucid.eval.score import AS_WELL, NO_VALUE, Score


def table(scores: Sequence[Score], *, test_openings: int = 0) -> Table:
    """One line a score: value, interval, and those controls that have a value.

    A value that a control reaches is marked, and so is the control.
    """
    shown = Table(title="scores", title_justify="left", caption=_opened(test_openings))
    # A name that is cut could not be looked up: narrow terminals fold it instead.
    for name in ("metric", "site"):
        shown.add_column(name, overflow="fold")
    for name in ("value", "95 % interval"):
        shown.add_column(name, justify="right", overflow="fold")
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
    """Values of the controls, marked where as good as the score, then why it has no value."""
    held = {n: v for n, v in score.controls.items() if isinstance(v, float)}
    equal = [one.split()[0] for flag in _as_good(score) for one in _equals(flag)]
    values = [f"{n} {_short(v)}{' !' if n in equal else ''}" for n, v in held.items()]
    told = [flag for flag in score.flags if flag.startswith(NO_VALUE)]
    return "\n".join([", ".join(values), *told]).strip()


def _equals(flag: str) -> list[str]:
    return flag.removeprefix(AS_WELL).split(", ")


def _as_good(score: Score) -> list[str]:
    return [flag for flag in score.flags if flag.startswith(AS_WELL)]


def _opened(times: int) -> str:
    """How often the test split has been opened for this run."""
    counted = {0: "never", 1: "once"}.get(times, f"{times} times")
    return f"! a control scores as well; the test split of this run has been opened {counted}"


def _interval(score: Score) -> str:
    return "" if score.low is None else f"{_short(score.low)} … {_short(score.high)}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
