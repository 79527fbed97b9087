"""Several runs on one page: what differs in their settings, their scores, their curves."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pellucid.errors import RunError
from pellucid.report import origin
from pellucid.report.curves import curves
from pellucid.report.meaning import meaning
from pellucid.report.page import write_page
from pellucid.report.reading import Folder, RunFiles, read_run
from pellucid.report.scores import beside, better, is_number
from pellucid.report.summary import corpus, flatten, last_step, parameters
from pellucid.report.wording import short
from pellucid.storage import files

STYLES = ["base.css", "tables.css", "charts.css"]
SCRIPTS = ["dom.js", "curves.js", "comparison.js"]
# How each page starts, and what only a comparison has (templates/base.html, comparison.html).
DOCTYPE, MARK = b"<!doctype html>", b'<p class="eyebrow">Comparison</p>'
ACCOUNT = {
    "total": "Parameters",
    "nonzero": "Non-zero parameters",
    "active": "Active parameters per token",
    "flops_executed": "FLOPs per token, executed",
    "flops_ideal": "FLOPs per token, ideal",
}


def write_comparison(folders: Iterable[Folder], out: Path) -> Path:
    """Write a page that sets runs side by side and return its path.

    Runs whose data fingerprints differ share the page but are not ranked with each other; nor are
    runs trained from scratch with those that start from, or are taught by, another run. A run with
    post-hoc coders is ranked with the run that they explain.
    RunError: fewer than two folders, one that cannot be read, or no place for the page at `out`.
    """
    runs = [read_run(folder) for folder in folders]
    if len(runs) < 2:
        raise RunError(f"a comparison needs two runs or more; {len(runs)} given")
    out = Path(out).resolve()
    check_free(out)
    heads = _heads(runs)
    drawn = [{**head, **curves(run.metrics)} for head, run in zip(heads, runs, strict=True)]
    context = {
        "title": f"{len(runs)} runs",
        "runs": heads,
        "groups": sorted({head["group"] for head in heads}),
        "fingerprints": len({head["fingerprint"] for head in heads}),
        "origins": sorted({head["origin"] for head in heads}),
        "differences": _differences(runs),
        "account": _account(runs),
        "scores": _scores(runs, heads),
    }
    with files.explained(RunError, f"write the page {out}"):
        return write_page(
            out,
            template="comparison.html",
            styles=STYLES,
            scripts=SCRIPTS,
            data={"runs": drawn},
            context=context,
        )


def check_free(out: Path, mark: bytes = MARK) -> None:
    """Refuse a place for the page that is missing, or that holds what is not such a page."""
    with files.explained(RunError, f"write the page {out}"):
        if out.is_dir():
            raise RunError(f"{out} is a folder: give the path of a file for the page")
        if not out.parent.is_dir():
            raise RunError(f"{out.parent} is not a folder: give a path in a folder that exists")
        if out.exists() and not _is_page(out, mark):
            raise RunError(
                f"{out} is not a page that compare wrote: give the path of such a page, or a new one"
            )


def _is_page(file: Path, mark: bytes) -> bool:
    """Whether a file is a page with this mark; an empty one holds nothing to lose."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        start = opened.read(len(DOCTYPE))
        return not start or (start == DOCTYPE and mark in opened.read())


def _heads(runs: list[RunFiles]) -> list[dict[str, Any]]:
    """Name, data, origin and group of each run; runs of one group may be ranked."""
    names = _names(runs)
    letters: dict[tuple[Any, ...], str] = {}
    heads = []
    for index, run in enumerate(runs):
        # A run that records no fingerprint is comparable to nothing, so it is its own group.
        key = (run.fingerprint or f"unknown {index}", origin.kin(run))
        letter = letters.setdefault(key, chr(ord("A") + len(letters)))
        heads.append(
            {
                "name": names[index],
                "index": index,
                "group": letter,
                "fingerprint": short(run.fingerprint) if run.fingerprint else "not recorded",
                "corpus": corpus(run),
                "origin": origin.in_words(run),
                "matched": origin.matched(run),
                "step": last_step(run),
            }
        )
    return heads


def _names(runs: list[RunFiles]) -> list[str]:
    """Folder names; with the folder above where two would read the same."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{run.path.parent.name}/{name}"
        for name, run in zip(names, runs, strict=True)
    ]


def _differences(runs: list[RunFiles]) -> list[dict[str, Any]]:
    flat = [flatten(run.config) for run in runs]
    paths = dict.fromkeys(path for config in flat for path in config)
    rows = [{"path": path, "values": [config.get(path) for config in flat]} for path in paths]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]


def _account(runs: list[RunFiles]) -> list[dict[str, Any]]:
    accounts = [parameters(run) for run in runs]
    rows = [
        {"label": label, "values": [account.get(key) for account in accounts]}
        for key, label in ACCOUNT.items()
    ]
    return [row for row in rows if any(value is not None for value in row["values"])]


def _scores(runs: list[RunFiles], heads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per metric, site, unit family and split: [{key…, better, cells: [score or None]}]."""
    rows: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for index, run in enumerate(runs):
        for score in (run.scores or {}).get("scores", []):
            key = tuple(score.get(part) for part in ("metric", "site", "unit_family", "split"))
            rows.setdefault(key, {})[index] = score
    return [_score_row(key, found, heads) for key, found in rows.items()]


def _score_row(
    key: tuple[Any, ...], found: dict[int, dict[str, Any]], heads: list[dict[str, Any]]
) -> dict[str, Any]:
    metric, site, family, split = key
    direction = better(next(iter(found.values())))
    best = _best(found, heads, direction)
    cells = [
        {"score": found.get(i), "best": i in best, "group": head["group"]}
        | beside(found.get(i, {}))
        for i, head in enumerate(heads)
    ]
    about = {"metric": metric, "site": site, "family": family, "split": split}
    about["about"] = meaning(str(metric))
    return {**about, "better": direction, "cells": cells}


def _best(
    found: dict[int, dict[str, Any]], heads: list[dict[str, Any]], direction: str | None
) -> set[int]:
    """Runs that lead their group alone: no interval of the group reaches theirs.

    One that is not clearly better than its own controls leads nothing, though others may be behind.
    """
    if direction is None:
        return set()
    groups: dict[str, list[int]] = {}
    for index, score in found.items():
        if is_number(score.get("value")):
            groups.setdefault(heads[index]["group"], []).append(index)
    return {
        index
        for members in groups.values()
        for index in members
        if len(members) > 1
        and not _matched(found[index])
        and all(_ahead(found[index], found[i], direction) for i in members if i != index)
    }


def _matched(score: dict[str, Any]) -> bool:
    """Whether some control is as good."""
    marks = beside(score)
    return bool(marks["beaten"] or marks["close"])


def _ahead(score: dict[str, Any], other: dict[str, Any], direction: str) -> bool:
    worst, best = ("high", "low") if direction == "lower" else ("low", "high")
    mine = score[worst] if is_number(score.get(worst)) else score["value"]
    theirs = other[best] if is_number(other.get(best)) else other["value"]
    return mine < theirs if direction == "lower" else mine > theirs
