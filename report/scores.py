"""Scores beside their controls: what the score table prints and the small chart of each row."""

import math
from collections.abc import Callable
from typing import Any

from pellucid.report import wording
from pellucid.report.meaning import HEADLINE, meaning
from pellucid.report.wording import words

LOWER_IS_BETTER = {"bits_per_byte", "bits_per_byte_overlap", "loss", "perplexity"}
PRICE = "bits_per_byte_given_up"
HIGHER_IS_BETTER = {"bits_saved_over_5gram", "explained_loss"}
"""Metrics that claim something; every other one describes and is neither ranked nor beaten."""
CEILINGS = ("ceiling", "linear_probe")
"""Controls that a score is not meant to beat."""

MANY = 4
"""A reason that more rows share is said once for all of them, though it is not that of most."""
WIDTH = 200
"""Longest bar in pixels."""
AS_WELL = "a control scores as well: "
"""How the flag begins that the evaluation leaves; the page marks such controls itself."""
UNMATCHED = "not matched in size"
"""What the evaluation says of a dense run of another size."""


def score_rows(scores: dict[str, Any] | None) -> list[dict[str, Any]]:
    """One dict per score: the score's own fields, its controls, flags in words, and its chart."""
    shared = set(shared_flags(scores))
    return [_row(score, shared) for score in (scores or {}).get("scores", [])]


def shared_flags(scores: dict[str, Any] | None) -> list[str]:
    """Flags that every score carries, in words; the page says them once."""
    every = [score.get("flags") or [] for score in (scores or {}).get("scores", [])]
    if len(every) < 2:
        return []
    return [words(flag) for flag in every[0] if all(flag in flags for flags in every)]


def families(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of each metric, `rule:f1` being one of `rule`: what is shown, and what on demand.

    The headline is the first; the others keep their order.
    """
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(row["score"]["metric"].partition(":")[0], []).append(row)
    found = []
    for name in sorted(kinds, key=lambda name: name != HEADLINE):
        members = kinds[name]
        first = members[0]["score"]["metric"]
        shown = [row for row in members if row["score"]["metric"] == first]
        more = [row for row in members if row not in shown]
        found.append(
            {"name": name, "about": meaning(name), "shown": shown, "more": more}
            | {"headline": name == HEADLINE}
        )
    return found


def shared_missing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Controls that most rows, or many, lack for the same reason: said once, and taken from them."""
    held: dict[tuple[str, str], int] = {}
    for row in rows:
        for missing in row["missing"]:
            for name in missing["names"]:
                held[name, missing["reason"]] = held.get((name, missing["reason"]), 0) + 1
    many = max(1, min(MANY, len(rows) / 2))
    common = {pair for pair, count in held.items() if count > many}
    for row in rows:
        row["missing"] = [
            {**missing, "names": names}
            for missing in row["missing"]
            if (names := [n for n in missing["names"] if (n, missing["reason"]) not in common])
        ]
    said: dict[str, list[str]] = {}
    for name, reason in sorted(common):
        said.setdefault(reason, []).append(name)
    return [{"names": names, "reason": reason} for reason, names in said.items()]


def better(score: dict[str, Any]) -> str | None:
    """Whether "lower" or "higher" is better; None where the metric only describes."""
    if score.get("better") in ("lower", "higher"):
        return score["better"]
    if score.get("metric") in LOWER_IS_BETTER:
        return "lower"
    return "higher" if score.get("metric") in HIGHER_IS_BETTER else None


def beside(score: dict[str, Any]) -> dict[str, Any]:
    """A score's controls with a value, and the names of those that it is not clearly better than."""
    controls = _controls(score)
    return {
        "controls": [control for control in controls if control["value"] is not None],
        "beaten": [control["name"] for control in controls if control["as_good"] == "surely"],
        "close": [control["name"] for control in controls if control["as_good"] == "perhaps"],
    }


def _row(score: dict[str, Any], shared: set[str]) -> dict[str, Any]:
    controls = _controls(score)
    return beside(score) | {
        "score": score,
        "about": meaning(str(score["metric"])),
        "better": better(score),
        "missing": _by_reason(controls),
        "flags": _flags(score, shared),
        "bars": bars(score, controls),
    }


def _controls(score: dict[str, Any]) -> list[dict[str, Any]]:
    return [_control(name, held, score) for name, held in (score.get("controls") or {}).items()]


def _flags(score: dict[str, Any], shared: set[str]) -> list[str]:
    """What must be said of this score alone, but for the marks of its controls."""
    flags = [str(flag) for flag in score.get("flags") or []]
    told = [words(flag) for flag in flags if not flag.startswith(AS_WELL)]
    return [flag for flag in told if flag not in shared]


def price(scores: dict[str, Any] | None) -> dict[str, Any] | None:
    """The price of interpretability: its score, or why it is not known; None where not asked for."""
    every = (scores or {}).get("scores", [])
    found = next((score for score in every if score.get("metric") == PRICE), None)
    if found is None:
        return None
    if not is_number(found.get("value")):
        return {"reason": wording.reason(found)}
    value, low, high = found["value"], found.get("low"), found.get("high")
    cheaper = value < 0
    if cheaper:  # told as so much less, and so are the ends of the interval
        value, low, high = (-end if is_number(end) else end for end in (value, high, low))
    matched = not any(UNMATCHED in flag for flag in found.get("flags") or ())
    return {"value": value, "low": low, "high": high, "cheaper": cheaper, "matched": matched}


def opened(scores: dict[str, Any] | None) -> str | None:
    """How often the test split was opened, in words; None where that is not recorded."""
    times = (scores or {}).get("test_openings")
    if not isinstance(times, int):
        return None
    counted = {0: "never", 1: "once"}.get(times, f"{times} times")
    return f"test split opened {counted}"


def _control(name: str, held: Any, score: dict[str, Any]) -> dict[str, Any]:
    value = held if is_number(held) else None
    reason = None if value is not None else (str(held) if held else "no reason was recorded")
    as_good = _as_good(name, value, score) if value is not None else None
    return {"name": words(name), "value": value, "reason": reason, "as_good": as_good}


def _by_reason(controls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Controls without a value, those of one reason together: [{names, reason}]."""
    reasons: dict[str, list[str]] = {}
    for control in controls:
        if control["value"] is None:
            reasons.setdefault(control["reason"], []).append(control["name"])
    return [{"names": names, "reason": reason} for reason, names in reasons.items()]


def _as_good(name: str, control: float, score: dict[str, Any]) -> str | None:
    """Whether a control does as well: "surely" as the value itself, "perhaps" within its interval.

    The interval is the score's own, not that of the difference, so "perhaps" is a caution only.
    """
    direction, value = better(score), score.get("value")
    if direction is None or not is_number(value) or name.startswith(CEILINGS):
        return None
    sign, end = (1, "high") if direction == "lower" else (-1, "low")
    worst = score[end] if is_number(score.get(end)) else value
    if sign * control <= sign * value:
        return "surely"
    return "perhaps" if sign * control <= sign * worst else None


def bars(score: dict[str, Any], controls: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A bar for the score, with its interval, and one for each control, all from the same zero.

    None where there is no value, or nothing to set it beside.
    """
    beside = [control for control in controls if control["value"] is not None]
    if not is_number(score.get("value")) or not beside:
        return None
    ends = {key: score[key] for key in ("low", "high") if is_number(score.get(key))}
    own = {"name": "this run", "value": score["value"], "as_good": None, **ends}
    everything = [0, score["value"], *ends.values(), *(c["value"] for c in beside)]
    low, high = min(everything), max(everything)
    if low == high:
        return None

    def place(value: float) -> float:
        return round(WIDTH * (value - low) / (high - low), 1)

    return {
        "zero": place(0),
        "value": place(score["value"]),
        "rows": [_bar(row, place, own=i == 0) for i, row in enumerate([own, *beside])],
    }


def _bar(row: dict[str, Any], place: Callable[[float], float], *, own: bool) -> dict[str, Any]:
    """Where one bar begins and how long it is, in pixels; its interval as `from` and `to`."""
    start, end = sorted((place(0), place(row["value"])))
    drawn = {"x": start, "length": round(max(end - start, 1), 1), "own": own}
    if "low" in row and "high" in row:
        drawn |= {"from": place(row["low"]), "to": place(row["high"])}
    return row | drawn


def is_number(value: Any) -> bool:
    """A finite number; bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
