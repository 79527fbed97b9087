"""Labels and the units that tell them best and worst, as `units.json` lists them."""

from typing import Any

from pellucid.report.scores import is_number

WIDTH = 200
"""Pixels of an F1 of 1."""


def concept_rows(units: dict[str, Any] | None) -> dict[str, Any] | None:
    """{rows, reason, told}: labels, those told best first; None where no evaluation looked at them.

    `told` counts the labels of which some unit tells more than their current token does.
    """
    found = (units or {}).get("concepts")
    if not isinstance(found, dict):
        return None
    rows = [_row(i, label) for i, label in enumerate(found.get("labels") or [])]
    rows.sort(key=lambda row: -(row["f1"] or 0))
    told = sum(row["f1"] is not None and not row["as_good"] for row in rows)
    return {"rows": rows, "reason": found.get("reason"), "told": told}


def labels_of(units: dict[str, Any]) -> list[dict[str, Any]]:
    """The labels for the page's scripts, in the order of the file."""
    found = units.get("concepts")
    return (found.get("labels") or []) if isinstance(found, dict) else []


def _row(place: int, label: dict[str, Any]) -> dict[str, Any]:
    best = next(iter(label.get("best") or []), {})
    f1, floor = best.get("f1"), label.get("floor")
    known = is_number(f1)
    return {
        "place": place,
        "label": label["label"],
        "share": label.get("share"),
        "f1": f1 if known else None,
        "floor": floor,
        "unit": f"{best['site']} / {best['unit']}" if best else None,
        "as_good": known and is_number(floor) and floor >= f1,
        "length": round(WIDTH * f1, 1) if known else 0,
        "mark": round(WIDTH * floor, 1) if is_number(floor) else None,
    }
