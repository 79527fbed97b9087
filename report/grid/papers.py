"""Tables for papers: the arms in Markdown, and every number of every arm as CSV."""

import csv
import io
from typing import Any

from pellucid.report.grid.arms import Arm
from pellucid.report.grid.effects import Difference
from pellucid.report.wording import number, significant, words
from pellucid.sweep.statistics import Effect


def spread(found: Effect) -> str:
    """`1.43 ± 0.02`, the half width of the 95 % interval; the mean alone at one seed."""
    if found.value is None:
        return "–"
    if found.low is None or found.high is None:
        return number(found.value)
    return f"{significant(found.value, 4)} ± {significant((found.high - found.low) / 2, 2)}"


def markdown(groups: list[dict[str, Any]]) -> str:
    """A table of arms for each group, then the declared differences with corrected p-values."""
    parts = []
    for group in groups:
        if len(groups) > 1:
            parts.append(f"## Group {group['letter']} (data {group['fingerprint']})\n")
        parts.append(_arms(group))
        parts.append(_differences(group))
    return "\n".join(part for part in parts if part)


def _arms(group: dict[str, Any]) -> str:
    columns = [*group["metrics"], *group["costs"]]
    why = ["not ranked because"] if any(arm.barred for arm in group["arms"]) else []
    marked = ["marks"] if any(arm.marks for arm in group["arms"]) else []
    head = ["rank", "arm", "seeds", *map(words, columns), *why, *marked]
    rows = [
        [
            str(arm.rank or "–"),
            arm.label + (" (baseline)" if arm.is_baseline else ""),
            str(len(arm.cells)),
            *(spread(arm.mean(column)) for column in columns),
            *("; ".join(arm.barred) for _ in why),
            *("; ".join(arm.marks) for _ in marked),
        ]
        for arm in group["arms"]
    ]
    said = "Mean over seeds ± half of Student's 95 % interval; – : not ranked or not measured."
    return f"{_table(head, rows)}\n{said}\n"


def _differences(group: dict[str, Any]) -> str:
    told = [row for table in group["endpoints"] for row, _ in table["rows"]]
    why = ["not ranked because"] if any(row.barred for row in told) else []
    rows = [
        [
            words(row.metric),
            row.label,
            row.against,
            _value(row.found),
            str(row.found.n),
            significant(row.p_holm, 2),
            _found(row),
            *("; ".join(row.barred) for _ in why),
        ]
        for row in told
    ]
    if not rows:
        return ""
    head = ["endpoint", "arm", "against", "difference (95 %)", "seeds", "p (Holm)", "found"]
    return _table([*head, *why], rows) + _baseline(group["reference"])


def _baseline(reference: Arm) -> str:
    """That what all others are compared with is not ranked, and why."""
    if not reference.barred:
        return ""
    return f"\n{_plain(reference.label)} is not ranked itself: {'; '.join(reference.barred)}.\n"


def _found(row: Difference) -> str:
    small = f", by less than {row.margin:g}" if row.differs and row.within else ""
    return row.verdict + small + (" (exploratory)" if row.exploratory else "")


def _value(found: Effect) -> str:
    if found.value is None or found.low is None or found.high is None:
        return number(found.value)
    return f"{significant(found.value)} ({significant(found.low)} … {significant(found.high)})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in lines)


def _plain(cell: str) -> str:
    """A cell that neither ends its column nor its line, nor is read as markup."""
    plain = " ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|")
    return plain.replace("<", "&lt;")


def csv_table(groups: list[dict[str, Any]]) -> str:
    """One line for each arm, metric and seed, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    about = ["group", "arm", "baseline", "rank", "not_ranked"]
    writer.writerow([*about, "seed", "marks", "metric", "value"])
    for group in groups:
        for arm in group["arms"]:
            for metric in (*group["all_metrics"], *group["costs"]):
                writer.writerows(_lines(group["letter"], arm, metric))
    return text.getvalue()


def _lines(letter: str, arm: Arm, metric: str) -> list[list[Any]]:
    about = [letter, _inert(arm.label), int(arm.is_baseline), arm.rank or "", "; ".join(arm.barred)]
    marks = {cell.seed: "; ".join(cell.marks) for cell in arm.cells}
    values = sorted(arm.by_seed(metric).items())
    return [[*about, seed, marks[seed], metric, repr(value)] for seed, value in values]


def _inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text
