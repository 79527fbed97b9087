"""report.html: everything one run has to show, in one file beside it."""

from pathlib import Path

from pellucid.report.circuit import script_data, shown_circuits, write_exports
from pellucid.report.circuit.reading import parse
from pellucid.report.concepts import concept_rows
from pellucid.report.curves import curves
from pellucid.report.layers import profiles
from pellucid.report.page import write_page
from pellucid.report.reading import Folder, RunFiles, read_run
from pellucid.report.scores import (
    families,
    opened,
    price,
    score_rows,
    shared_flags,
    shared_missing,
)
from pellucid.report.sites import browser_data, choices, site_rows
from pellucid.report.summary import exactness, facts, flatten, slots

STYLES = ["base.css", "tables.css", "charts.css", "browser.css", "unit.css"]
STYLES += ["concepts.css", "drawing.css", "circuits.css"]
SCRIPTS = [
    "dom.js",
    "tokens.js",
    "histogram.js",
    "curves.js",
    "search.js",
    "window.js",
    "cards.js",
    "unit.js",
    "browser.js",
    "concepts.js",
    "node.js",
    "circuits.js",
    "report.js",
]


def write_report(folder: Folder) -> Path:
    """Write report.html into the run folder and return its path; beside its circuits, their exports.

    A run without scores or units yet gets a page that says how to make them.
    RunError: the folder is no run folder, or a file in it is damaged.
    """
    run = read_run(folder)
    circuits = [parse(name, content) for name, content in run.circuits.items()]
    circuits.sort(key=lambda circuit: circuit.place)
    write_exports(run.path, circuits)
    return write_page(
        run.path / "report.html",
        template="report.html",
        styles=STYLES,
        scripts=SCRIPTS,
        data={
            "curves": curves(run.metrics),
            "units": browser_data(run.units),
            "circuits": script_data(circuits),
        },
        context=_about(run) | _scored(run) | {"circuits": shown_circuits(circuits)},
    )


def _scored(run: RunFiles) -> dict[str, object]:
    """Scores in the order of the page: what they claim, what describes, what could not be had."""
    rows = score_rows(run.scores)
    measured = [row for row in rows if row["score"].get("value") is not None]
    claims = families([row for row in measured if row["better"]])
    return {
        "scores": rows,
        "price": price(run.scores),
        "shared_missing": shared_missing(rows),
        "claims": claims,
        "layers": profiles(claims),
        "described": [row for row in measured if not row["better"]],
        "absent": [row for row in rows if row not in measured],
        "opened": opened(run.scores),
        "shared_flags": shared_flags(run.scores),
    }


def _about(run: RunFiles) -> dict[str, object]:
    return {
        "title": run.name,
        "facts": facts(run),
        "slots": slots(run),
        "exactness": exactness(run),
        "settings": flatten(run.config),
        "manifest": flatten(run.manifest),
        "has_curves": bool(curves(run.metrics)["panels"]),
        "suite": (run.scores or {}).get("suite"),
        "checkpoint": (run.scores or run.units or {}).get("checkpoint"),
        "units": run.units,
        "sites": site_rows(run.units),
        "choices": choices(run.units),
        "concepts": concept_rows(run.units),
    }
