"""Units as the page needs them: statistics of each site, and the data of the unit browser."""

from typing import Any

from pellucid.report.concepts import labels_of
from pellucid.report.scores import is_number

WIDTH, HEIGHT = 220, 44
"""Size of a firing-density histogram in pixels."""


def site_rows(units: dict[str, Any] | None) -> list[dict[str, Any]]:
    """One dict per site: {site, stats, bars, axis}; every site has the same density axis."""
    sites = (units or {}).get("sites", [])
    axis = _axis(sites)
    return [
        {
            "site": site,
            "stats": site.get("stats") or {},
            "bars": _bars(_histogram(site), axis),
            "axis": axis,
        }
        for site in sites
    ]


def browser_data(units: dict[str, Any] | None) -> dict[str, Any] | None:
    """The units for the page's scripts; of the vocabulary only the tokens that occur."""
    if units is None:
        return None
    vocab = units.get("vocab") or []
    labels = labels_of(units)
    shown = [unit for site in units["sites"] for unit in site["units"]]
    shown += [unit for label in labels for unit in (*label["best"], *label["worst"])]
    used = {token for unit in shown for token in _tokens(unit)}
    texts = {i: vocab[i] if 0 <= i < len(vocab) else f"[token {i}]" for i in sorted(used)}
    return {
        "vocab": texts,
        "checkpoint": units.get("checkpoint"),
        "split": units.get("split"),
        "n_tokens": units.get("n_tokens"),
        "sites": units["sites"],
        "labels": labels,
    }


def choices(units: dict[str, Any] | None) -> list[dict[str, Any]]:
    """How the shown units were chosen, sites of one sentence together: [{sentence, sites}]."""
    sentences: dict[str, list[str]] = {}
    for site in (units or {}).get("sites", []):
        if site.get("choice"):
            sentences.setdefault(site["choice"], []).append(site["name"])
    return [{"sentence": sentence, "sites": sites} for sentence, sites in sentences.items()]


def _tokens(unit: dict[str, Any]) -> set[int]:
    found = {token for context in unit.get("contexts") or [] for token in context["tokens"]}
    for direction in ("promotes", "suppresses"):
        found |= {token for token, _ in unit.get(direction) or []}
    return found


def _histogram(site: dict[str, Any]) -> dict[str, Any]:
    return (site.get("stats") or {}).get("density_histogram") or {"edges": [], "counts": []}


def _axis(sites: list[dict[str, Any]]) -> dict[str, Any] | None:
    edges = [edge for site in sites for edge in _histogram(site)["edges"] if is_number(edge)]
    return {"low": min(edges), "high": max(edges)} if edges else None


def _bars(histogram: dict[str, Any], axis: dict[str, Any] | None) -> list[dict[str, float]]:
    """Rectangles of a histogram over log10 of the firing density; heights relative to its mode."""
    edges, counts = histogram["edges"], histogram["counts"]
    if axis is None or not counts or axis["low"] == axis["high"]:
        return []
    per_unit = WIDTH / (axis["high"] - axis["low"])
    tallest = max(max(counts), 1)
    return [
        {
            "x": round((left - axis["low"]) * per_unit, 2),
            "width": round(max((right - left) * per_unit - 1, 0.5), 2),
            "height": round(HEIGHT * n / tallest, 2),
            "count": n,
            "from": left,
            "to": right,
        }
        for left, right, n in zip(edges, edges[1:], counts, strict=False)
    ]
