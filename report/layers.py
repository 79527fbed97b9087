"""Scores layer by layer: one small chart for each metric that has a value for several sites."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from pellucid.report.scores import is_number

WIDTH, HEIGHT = 268, 112
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 20
"""Room around the lines, in pixels; ends of the scale stand at the left, layers below."""
CONTROLS = ("random twin", "permuted weights", "rotated units", "random dictionary")
CONTROLS += ("dense neurons", "pca", "ica")
"""Controls with a color of their own, 1 and on; what else stands beside a score has color 0."""
_LAYER = re.compile(r"\.(\d+)\.")


def profiles(claims: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """{panels, controls, others}: the first metric of each family of claims, as lines over its sites.

    A panel has its own scale, from the least to the largest number it shows. A control has one
    color on all of them; `others` says whether there are lines beside those of controls.
    """
    drawn = [rows for family in claims for rows in _by_kind(family["shown"])]
    names = {c["name"] for rows in drawn for row in rows for c in row["controls"]}
    color = {name: CONTROLS.index(name) + 1 if name in CONTROLS else 0 for name in sorted(names)}
    shown = [name for name in CONTROLS if name in names]
    return {
        "panels": [_panel(rows, color) for rows in drawn],
        "controls": [{"name": name, "color": color[name]} for name in shown],
        "others": len(names) > len(shown),
    }


def _by_kind(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows of one kind of unit each, where several sites have a value."""
    kinds: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        if row["score"].get("site") and is_number(row["score"].get("value")):
            kinds.setdefault(row["score"].get("unit_family"), []).append(row)
    return [found for found in kinds.values() if len(found) > 1]


def _panel(rows: list[dict[str, Any]], color: dict[str, int]) -> dict[str, Any]:
    scores = [row["score"] for row in rows]
    numbers = [s[key] for s in scores for key in ("value", "low", "high") if is_number(s.get(key))]
    numbers += [control["value"] for row in rows for control in row["controls"]]
    low, high = min(numbers), max(numbers)
    x = [LEFT + i * (WIDTH - LEFT - RIGHT) / (len(rows) - 1) for i in range(len(rows))]
    y = lambda value: TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / ((high - low) or 1)
    own = [(at, y(score["value"])) for at, score in zip(x, scores, strict=True)]
    return {
        "metric": scores[0]["metric"],
        "kind": scores[0].get("unit_family"),
        "better": rows[0]["better"],
        "low": low,
        "high": high,
        "path": _path(own),
        "points": [_point(place, score, y) for place, score in zip(own, scores, strict=True)],
        "controls": [
            {"name": name, "color": of, "path": _path(places)}
            for name, of in color.items()
            if len(places := _places(rows, name, x, y)) > 1
        ],
    }


def _point(
    place: tuple[float, float], score: dict[str, Any], y: Callable[[float], float]
) -> dict[str, Any]:
    made = {"x": round(place[0], 1), "y": round(place[1], 1), "score": score}
    made["layer"] = found.group(1) if (found := _LAYER.search(f".{score['site']}.")) else ""
    if is_number(score.get("low")) and is_number(score.get("high")):
        made |= {"top": round(y(score["high"]), 1), "bottom": round(y(score["low"]), 1)}
    return made


def _places(
    rows: list[dict[str, Any]], name: str, x: list[float], y: Callable[[float], float]
) -> list[tuple[float, float]]:
    return [
        (at, y(control["value"]))
        for at, row in zip(x, rows, strict=True)
        for control in row["controls"]
        if control["name"] == name
    ]


def _path(places: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
