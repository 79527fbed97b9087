"""Writes a grid's page, its tables for papers, and its figures."""

import re
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pellucid.errors import RunError
from pellucid.report.comparison import check_free
from pellucid.report.grid import papers
from pellucid.report.grid.arms import BITS, NGRAM, Group, better_of, groups, metrics_of
from pellucid.report.grid.effects import Difference, of_axes, to_baseline
from pellucid.report.grid.figures import COST_AXES, Figure, frontier, strip
from pellucid.report.grid.reading import COSTS, GridFiles, read_grid
from pellucid.report.grid.tuning import searched
from pellucid.report.page import write_page
from pellucid.report.wording import short
from pellucid.storage import files

STYLES = ["base.css", "tables.css", "charts.css", "grid.css"]
SCRIPTS = ["dom.js", "grid.js"]
CAPABILITY = ("bits_", "bytes_", "loss", "regret", "induction", "tasks", "minimal_pairs")
CAPABILITY += ("cross_entropy", "identifier_recall", "calibration", "sample_validity", "max_active")
"""How metrics begin that are no interpretability scores; these get no frontier of their own."""
MARK = b'<p class="eyebrow">Grid</p>'
COLUMNS = 12
"""Metrics in the table of arms; the CSV file has all."""


def write_grid(
    folder: Path | str,
    out: Path,
    *,
    markdown: Path | None = None,
    csv: Path | None = None,
    figures: Path | None = None,
) -> Path:
    """Write the page of a grid's folder and return its path, and what else was asked for.

    Arms whose data or origin differ share the page but stand in groups of their own. RunError: the
    folder is no grid, or a place for a file cannot be written.
    """
    out = Path(out).resolve()
    check_free(out, MARK)
    read = read_grid(folder)
    found = groups(read)
    endpoints = read.grid["endpoints"]
    declared = to_baseline(found, endpoints, declared=True, margins=read.grid["margins"])
    shown = [_group(read, group, declared[group.letter]) for group in found]
    context = {
        "title": read.grid["name"],
        "grid": read.grid,
        "groups": shown,
        "counted": _counted(read),
        "left": [cell for cell in read.cells if cell.state != "done"],
        "tuning": searched(read),
        "tuned": read.tuning is not None,
        "costs": COSTS,
    }
    with files.explained(RunError, f"write the page {out}"):
        page = write_page(
            out,
            template="grid.html",
            styles=STYLES,
            scripts=SCRIPTS,
            data={},
            context=context,
        )
    curves = [one.figure for one in context["tuning"] if one.figure]
    _others(shown, curves, markdown, csv, figures)
    return page


def _others(
    shown: list[dict[str, Any]],
    tuning: list[Figure],
    markdown: Path | None,
    csv: Path | None,
    figures: Path | None,
) -> None:
    with files.explained(RunError, f"write {markdown or csv or figures}"):
        if markdown:
            files.replace(Path(markdown), papers.markdown(shown).encode())
        if csv:
            files.replace(Path(csv), papers.csv_table(shown).encode())
        if figures:
            _draw(shown, tuning, Path(figures))


def _draw(shown: list[dict[str, Any]], tuning: list[Figure], folder: Path) -> None:
    """Every figure as an SVG file."""
    named = {_slug(figure.name): figure for figure in tuning}
    for group in shown:
        ending = f"-{group['letter']}" if len(shown) > 1 else ""
        for figure in (*group["frontier"], *group["further"]):
            named[f"{_slug(figure.name)}{ending}"] = figure
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in named.items():
        files.replace(folder / f"{name}.svg", figure.file().encode())


def _slug(name: str) -> str:
    return re.sub(r"[^\w=.,+-]+", "_", name)[:80]


def _counted(read: GridFiles) -> str:
    states = [cell.state for cell in read.cells]
    said = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return f"{len(states)} cells: {', '.join(said)}" if said else "no cells"


def _group(read: GridFiles, group: Group, declared: list[Difference]) -> dict[str, Any]:
    """Everything the page shows of one group."""
    metrics, ways = metrics_of(group.arms), better_of(group.arms)
    endpoints = read.grid["endpoints"]
    whole = _whole(metrics, endpoints)
    claims = [m for m in whole if m in ways and m not in endpoints]
    first = dict.fromkeys(m for m in (*endpoints, BITS, NGRAM, *claims, *whole) if m in metrics)
    claimed = [m for m in first if m in (*endpoints, BITS, *claims)]
    axes = dict.fromkeys((*COST_AXES, *(m for m in whole if _drawn(m, endpoints))))
    figures = [figure for m in axes if (figure := frontier(group.arms, m))]
    lead = [f for f in figures if _leads(f, (*COST_AXES, *endpoints), ways)]
    others = to_baseline([group], [m for m in first if m not in endpoints], declared=False)
    return {
        "letter": group.letter,
        "fingerprint": short(group.fingerprint),
        "reference": group.reference,
        "arms": sorted(group.arms, key=lambda arm: (arm.rank is None, arm.rank, arm.index)),
        "all_metrics": metrics,
        "metrics": list(first)[:COLUMNS],
        "hidden": max(0, len(metrics) - COLUMNS),
        "costs": [cost for cost in COSTS if any(arm.by_seed(cost) for arm in group.arms)],
        "better": ways,
        "refused": {m: why for a in group.arms for c in a.cells for m, why in c.refused.items()},
        "frontier": lead,
        "further": [figure for figure in figures if figure not in lead],
        "endpoints": _strips([one for one in declared if one.metric in metrics]),
        "unmeasured": [m for m in endpoints if m not in metrics],
        "others": _strips(others[group.letter]),
        "axes": _strips(of_axes(group, read.grid["axes"], claimed, read.grid["margins"])),
    }


def _whole(metrics: list[str], endpoints: list[str]) -> list[str]:
    """Metrics that stand for themselves: of one in parts (`rule:f1`) its first, and endpoints."""
    first = {metric.partition(":")[0]: metric for metric in reversed(metrics)}
    return [m for m in metrics if m in endpoints or m in first.values()]


def _drawn(metric: str, endpoints: list[str]) -> bool:
    return metric in endpoints or not metric.startswith(CAPABILITY)


def _leads(figure: Figure, first: tuple[str, ...], ways: dict[str, str]) -> bool:
    metric = figure.name.removeprefix("frontier-")
    return metric in first or metric in ways


def _strips(differences: list[Difference]) -> list[dict[str, Any]]:
    """By metric: differences, each with its drawing on the scale of that metric."""
    metrics = dict.fromkeys(item.metric for item in differences)
    return [_drawn_rows(m, [d for d in differences if d.metric == m]) for m in metrics]


def _drawn_rows(metric: str, rows: list[Difference]) -> dict[str, Any]:
    ends = [0.0]
    for row in rows:
        ends += [e for e in (row.found.value, row.found.low, row.found.high) if e is not None]
    margin = 0.04 * (max(ends) - min(ends)) or 1.0
    low, high = min(ends) - margin, max(ends) + margin
    drawn = [Markup("") if r.found.value is None else strip(low, high, r.found) for r in rows]
    return {
        "metric": metric,
        "better": rows[0].better,
        "against": rows[0].against,
        "margin": rows[0].margin,
        "rows": list(zip(rows, drawn, strict=True)),
    }
