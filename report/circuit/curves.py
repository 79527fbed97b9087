"""The curves beneath a circuit: how its task comes back with size, and how it stands the rest."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pellucid.report.circuit.checked import finite
from pellucid.report.wording import number

WIDTH, HEIGHT = 260, 110
CHECKS = {
    "relaxation": (
        "Loss as the rest acts again",
        "of the other nodes",
        "The circuit's loss, in nats, when other nodes act again at random, by their share; dashed: "
        "the most that passes. What was found stays flat; what was only built spikes.",
    ),
    "interchange": (
        "Loss as its nodes do what they do in the model",
        "of its nodes",
        "The circuit's loss, in nats, when its own nodes are given what they do in the whole model, "
        "by their share; dashed: the most that passes.",
    ),
}
"""Title, what shares are of, and note of the controls whose points are drawn."""
FAITHFUL = (
    "How much of the whole model's margin the best nodes alone give; dashed: all of it. CPR is the "
    "area beneath, CMD the distance from 1."
)

Points = Sequence[tuple[float, float]]


def curves(mib: Mapping[str, Any], battery: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the page draws of `mib` and of the checks that have points."""
    found = [_faithfulness(mib), *map(_loss, battery)]
    return [curve for curve in found if curve]


def _faithfulness(held: Mapping[str, Any]) -> dict[str, Any] | None:
    """The share of the model's margin over the number of nodes, with CPR and CMD."""
    points = points_of(held.get("points"))
    cpr, cmd = finite(held.get("cpr")), finite(held.get("cmd"))
    if not points and cpr is None and cmd is None:
        return None
    about = {
        "title": "Faithfulness by size",
        "aside": f"CPR {number(cpr, 3)} · CMD {number(cmd, 3)}",
        "label": "Faithfulness over the number of kept nodes",
        "note": FAITHFUL,
        "level": "the whole model",
    }
    ends = [number(points[0][0]), f"{number(points[-1][0])} nodes"] if points else []
    return about | {"drawn": drawn(points, 1.0), "ends": ends}


def _loss(check: Mapping[str, Any]) -> dict[str, Any] | None:
    """The loss over a share of nodes, beside the most that passes."""
    name, points = str(check.get("name")), points_of(check.get("points"))
    if name not in CHECKS or not points:
        return None
    title, whose, note = CHECKS[name]
    most = finite(check.get("most"))
    return {
        "title": title,
        "aside": "",
        "label": title,
        "note": note,
        "level": f"up to {number(most)} passes",
        "drawn": drawn(points, most),
        "ends": [_percent(points[0][0]), f"{_percent(points[-1][0])} {whose}"],
    }


def drawn(points: Points, level: float | None) -> dict[str, Any] | None:
    """A curve over a logarithmic axis, and a level that it is held against; None for less than two."""
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return None
    heights = [0.0, *(y for _, y in points), *([] if level is None else [level])]
    low, span = min(heights), (max(heights) - min(heights)) or 1.0
    first, last = points[0][0], points[-1][0]

    def up(y: float) -> float:
        return round(HEIGHT * (1 - (y - low) / span), 1)

    def across(x: float) -> float:
        return round(WIDTH * math.log(x / first) / math.log(last / first), 1)

    marks = [{"x": across(x), "y": up(y), "says": number(y)} for x, y in points]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "line": " ".join(f"{mark['x']},{mark['y']}" for mark in marks),
        "marks": marks,
        "level": None if level is None else up(level),
    }


def points_of(held: Any) -> list[tuple[float, float]]:
    """Pairs of a size, or a share, and a number, by size; a size of 0 has no logarithm."""
    listed = held if isinstance(held, list) else []
    pairs = [pair for pair in listed if isinstance(pair, list) and len(pair) == 2]
    found = [(finite(x), finite(y)) for x, y in pairs]
    return sorted((x, y) for x, y in found if x is not None and y is not None and x > 0)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
