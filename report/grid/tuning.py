"""What tuning did, arm by arm: how much was tried, what was chosen, and what is wrong with it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.report.grid.figures import Figure, tuning_curve
from pellucid.report.grid.reading import GridFiles, label_of


@dataclass(frozen=True, kw_only=True)
class Searched:
    """One arm's search as the page tells it."""

    label: str
    runs: int
    """trials, over all tuning seeds"""
    chosen: str
    """the words that the arm's cells were told; nothing where none could be used"""
    bits: float | None
    """validation bits per byte of what was chosen, the mean over tuning seeds"""
    flags: tuple[str, ...]
    figure: Figure | None
    """its curve, where two points or more have a value"""


def searched(read: GridFiles) -> list[Searched]:
    """Every arm that was searched, in the grid's order."""
    told = read.tuning or {}
    seeds = len(told.get("seeds", []))
    name = told.get("field", "learning rate")
    return [_searched(arm, str(arm.get("field", name)), seeds) for arm in told.get("arms", [])]


def _searched(arm: Mapping[str, Any], field: str, seeds: int) -> Searched:
    label, curve = label_of(arm["values"]), arm.get("curve", [])
    best = arm.get("chosen") or {}
    words = f"{field}={best['rate']:g} {best.get('dial', '')}".strip() if best else ""
    found = (p["bits"] for p in curve if _at(p, best))
    return Searched(
        label=label,
        runs=arm.get("runs", len(curve) * seeds),
        chosen=words,
        bits=next(found, None) if best else None,
        flags=tuple(_flags(arm, curve)),
        figure=tuning_curve(label, dict(arm)),
    )


def _at(point: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    return all(point.get(key) == best.get(key) for key in ("rate", "dial"))


def _flags(arm: Mapping[str, Any], curve: list[Mapping[str, Any]]) -> Iterator[str]:
    diverged = sum(point.get("bits") is None for point in curve)
    if arm.get("defect"):
        yield f"a trial failed: {arm['defect']}"
        return
    if diverged:
        yield f"{diverged} of {len(curve)} diverged"
    if arm.get("chosen") and arm.get("at_edge"):
        yield "best learning rate at the edge of the search"
