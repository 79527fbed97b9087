"""Losses of a grid's circuits by distance: with more tokens between cue and answer, by arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.report.grid.reading import CellFiles
from pellucid.report.reading import read_json

Losses = tuple[float, float]
"""Of a circuit and of the whole model, in nats."""


@dataclass(frozen=True, kw_only=True)
class Strata:
    """An arm's circuits at the distances they were measured at; means over seeds and tasks."""

    arm: str
    losses: Mapping[int, Losses]
    """by tokens of filler"""
    n: int
    """circuits that enter"""
    tasks: tuple[str, ...]
    missing: tuple[str, ...] = field(default=())
    """circuits that have losses at some distances alone, and why"""


def by_distance(folder: Path, cells: Sequence[CellFiles], tasks: Sequence[str]) -> list[Strata]:
    """Every arm of which a task has strata, in the order of the cells.

    Of a task that a model misses there is no circuit, and of one without strata there is nothing: a
    mean is over the circuits that are there, each with all of its distances.
    """
    found = []
    for arm in dict.fromkeys(cell.label for cell in cells):
        mine = [cell for cell in cells if cell.label == arm]
        held = {(c.name, task): _read(folder, c.name, task) for c in mine for task in tasks}
        whole = {key: rows for key, rows in held.items() if rows and not _missing(rows)}
        if any(held.values()):
            found.append(_of_arm(arm, held, whole))
    return found


def _of_arm(
    arm: str,
    held: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
    whole: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
) -> Strata:
    at: dict[int, list[Losses]] = {}
    for rows in whole.values():
        for row in rows:
            at.setdefault(row["distance"], []).append((row["circuit"], row["model"]))
    left = [(key, rows) for key, rows in held.items() if rows and key not in whole]
    return Strata(
        arm=arm,
        losses={d: tuple(np.mean(each, axis=0).tolist()) for d, each in sorted(at.items())},
        n=len(whole),
        tasks=tuple(dict.fromkeys(task for _, task in whole)),
        missing=tuple(f"{cell}, {task}: {_missing(rows)}" for (cell, task), rows in left),
    )


def _read(folder: Path, cell: str, task: str) -> list[Mapping[str, Any]]:
    file = folder / "cells" / cell / "circuits" / f"{task}.json"
    return (read_json(file) or {}).get("strata", [])


def _missing(rows: Sequence[Mapping[str, Any]]) -> str:
    return next((row["reason"] or "no loss" for row in rows if row["circuit"] is None), "")


def table(found: Sequence[Strata]) -> str:
    """Losses as Markdown, of the circuit and of the whole model; empty where there are none."""
    if not any(one.losses for one in found):
        return ""
    distances = sorted({distance for one in found for distance in one.losses})
    head = ("arm", *(f"{d} tokens" if d else "near" for d in distances), "circuits", "tasks")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for one in found:
        losses = [_pair(one.losses.get(distance)) for distance in distances]
        row = [one.arm, *losses, str(one.n), ", ".join(one.tasks) or "–"]
        lines.append(f"| {' | '.join(row)} |")
    notes = [f"{one.arm}: {said}" for one in found for said in one.missing]
    return "\n".join([*lines, "", *notes]).strip()


def _pair(losses: Losses | None) -> str:
    return "–" if losses is None else f"{losses[0]:.3f} / {losses[1]:.3f}"
