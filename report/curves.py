"""Rows of metrics.jsonl as the series that the charts draw."""

from dataclasses import dataclass
from typing import Any

import numpy as np

DRAWN = 2000
"""Most points of one series; a longer series is thinned, and the page says so."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart: a quantity of metrics.jsonl and the kinds of rows it is drawn from."""

    key: str
    title: str
    unit: str
    kinds: tuple[str, ...] = ("train",)


PANELS = (
    Panel(key="loss", title="Loss", unit="nats per token", kinds=("train", "val")),
    Panel(key="bits_per_byte", title="Bits per byte", unit="held-out files", kinds=("val",)),
    Panel(key="teacher_kl", title="Distance to the teacher", unit="KL, nats per token"),
    Panel(key="active_units", title="Active units", unit="mean per token"),
    Panel(key="dead_share", title="Dead units", unit="share of all units"),
    Panel(key="lr", title="Learning rate", unit=""),
    Panel(key="grad_norm", title="Gradient norm", unit="before clipping"),
    Panel(key="tokens_per_s", title="Speed", unit="tokens per second"),
)


def curves(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Panels with at least one value, and the events of the run.

    {panels: [{key, title, unit, series: [{label, logged, step: [], tokens: [], value: []}]}],
     events: [{step, event}]}
    """
    at_step = _tokens_by_step(metrics)
    panels = []
    for panel in PANELS:
        drawn = [_series(metrics, kind, panel.key, at_step) for kind in panel.kinds]
        drawn = [series for series in drawn if series["logged"]]
        if drawn:
            about = {"key": panel.key, "title": panel.title, "unit": panel.unit}
            panels.append({**about, "series": drawn})
    return {"panels": panels, "events": _events(metrics)}


def _series(
    metrics: list[dict[str, Any]], kind: str, key: str, at_step: tuple[list[float], list[float]]
) -> dict[str, Any]:
    rows = [row for row in metrics if row.get("kind") == kind and _is_number(row.get(key))]
    rows = sorted((row for row in rows if _is_number(row.get("step"))), key=lambda r: r["step"])
    kept = [rows[i] for i in _thinned(len(rows))]
    steps = [row["step"] for row in kept]
    tokens = [round(float(t)) for t in np.interp(steps, *at_step)] if at_step[0] else None
    values = [float(f"{row[key]:.6g}") for row in kept]
    return {"label": kind, "logged": len(rows), "step": steps, "tokens": tokens, "value": values}


def _thinned(n: int) -> list[int]:
    """Indices to draw: even on both a linear and a logarithmic axis, first and last included."""
    if n <= DRAWN:
        return list(range(n))
    even = np.linspace(0, n - 1, DRAWN // 2)
    early = np.geomspace(1, n, DRAWN // 2) - 1
    return np.unique(np.round(np.concatenate([even, early])).astype(int)).tolist()


def _tokens_by_step(metrics: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    pairs = {r["step"]: r["tokens"] for r in metrics if _both_numbers(r, "step", "tokens")}
    steps = sorted(pairs)
    return steps, [pairs[step] for step in steps]


def _events(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [r for r in metrics if r.get("kind") == "event" and _is_number(r.get("step"))]
    return [{"step": row["step"], "event": str(row.get("event", "event"))} for row in rows]


def _both_numbers(row: dict[str, Any], *keys: str) -> bool:
    return all(_is_number(row.get(key)) for key in keys)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
