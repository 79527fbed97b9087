"""What a run has found: written to disk as it grows, and printed at the end."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pellucid.kernels.bench.timing import AGAIN, Spread

FORMAT = 2


@dataclass(frozen=True)
class Finding:
    """One comparison with the definition: passed where `error` is at most `bound`."""

    op: str
    case: str
    what: str
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        return self.error <= self.bound  # false for NaN


@dataclass
class Record:
    """Figures by key, `part/shape/variant[/stage]`; a figure has a value or the reason it has none.

    `path` is the JSON file, empty for none. Only finite numbers are written.
    """

    about: Mapping[str, Any]
    path: str = ""
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    goals: list[dict[str, Any]] = field(default_factory=list)

    def time(self, key: str, taken: Spread, **more: float) -> None:
        """Milliseconds of one thing, with rates or shares that follow from them."""
        self.figures[key] = {"ms": taken, "reason": None, **more}

    def value(self, key: str, unit: str, value: float) -> None:
        """Any other number."""
        self.figures[key] = {unit: value, "reason": None}

    def absent(self, key: str, reason: str) -> None:
        """Why there is no figure."""
        self.figures[key] = {"ms": None, "reason": reason}

    def found(self, finding: Finding) -> None:
        """Keep a comparison; an operation's first failure is its fault."""
        self.findings.append(finding)
        if not finding.passed:
            sentence = f"{finding.what} is off by {finding.error:.1e} ({finding.case})"
            self.faults.setdefault(finding.op, sentence)

    def ms(self, key: str) -> float | None:
        """Median milliseconds, if measured."""
        taken = self.figures.get(key, {}).get("ms")
        return taken[0] if taken else None

    def number(self, key: str, unit: str) -> float | None:
        """A number other than a time, if measured."""
        return self.figures.get(key, {}).get(unit)

    def reason(self, key: str) -> str:
        """Why there is no figure of that key; empty where there is one."""
        figure = self.figures.get(key, {"reason": "not measured"})
        return figure["reason"] or ""

    def ratio(self, key: str, slower: str, faster: str, stage: str = "whole") -> float | None:
        """How many times the one variant takes of the other's time; None if either is missing."""
        above, below = self.ms(f"{key}/{slower}/{stage}"), self.ms(f"{key}/{faster}/{stage}")
        return above / below if above and below else None

    def save(self) -> None:
        """Replace the file; a run that is killed keeps what was saved last."""
        if not self.path:
            return
        findings = [asdict(f) | {"passed": f.passed} for f in self.findings]
        kept = {"format": FORMAT, **self.about, "parity": findings, "figures": self.figures}
        kept |= {"faults": self.faults, "broken": self.broken, "goals": self.goals}
        text = json.dumps(finite(kept), indent=1, allow_nan=False)
        partial = Path(f"{self.path}.partial")
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, self.path)


def finite(value: Any) -> Any:
    """The same with null for every number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parity_lines(record: Record) -> list[str]:
    """One line an operation, or one for everything that failed."""
    lines = []
    by_op: dict[str, list[Finding]] = {}
    for finding in record.findings:
        by_op.setdefault(finding.op, []).append(finding)
    for op, of_op in by_op.items():
        failed = [f for f in of_op if not f.passed]
        lines += [f"  {op}: {f.what} is off by {f.error:.1e} ({f.case})" for f in failed]
        if not failed:
            worst = max(f.error for f in of_op)
            lines.append(f"  {op}: {len(of_op)} comparisons agree, off by at most {worst:.0e}")
    lines += [f"  {op} FAILS: {sentence}" for op, sentence in record.faults.items()]
    return lines


def summary_lines(record: Record) -> list[str]:
    """One line a table: the first variant's time, the others' as multiples of it; then what failed."""
    lines = []
    for key, times in _tables(record).items():
        (first, base), *others = times.items()
        multiples = [f"{name} {time / base:.2f}x" for name, time in others]
        lines.append(f"  {key}: " + ", ".join([f"{first} {base:.3f} ms", *multiples]))
    lines += [f"  withheld, {op}: {sentence}" for op, sentence in record.faults.items()]
    lines += [f"  failed: {key}" for key in record.broken]
    return lines


def _tables(record: Record) -> dict[str, dict[str, float]]:
    """Median milliseconds of whole variants by table."""
    tables: dict[str, dict[str, float]] = {}
    for name, figure in record.figures.items():
        key, _, stage = name.rpartition("/")
        if stage == "whole" and figure["ms"] and AGAIN not in key:
            table, _, variant = key.rpartition("/")
            tables.setdefault(table, {})[variant] = figure["ms"][0]
    return tables


def table_lines(record: Record, key: str) -> list[str]:
    """Every figure below a key, and what a repeated first variant says of the noise."""
    lines = [f"{key}"]
    for name, figure in record.figures.items():
        if not name.startswith(f"{key}/"):
            continue
        lines.append(
            f"  {name.removeprefix(key + '/').removesuffix('/whole'):30s}{figure_text(figure)}"
        )
        first, again = record.ms(name.replace(AGAIN, "")), record.ms(name)
        if AGAIN in name and first and again:
            lines[-1] += f"  (noise {abs(again / first - 1):.1%})"
    return lines


def figure_text(figure: Mapping[str, Any]) -> str:
    """One figure in words."""
    if figure["reason"]:
        return f"none: {figure['reason']}"
    words = []
    for unit, value in figure.items():
        if unit == "ms":
            median, low, high = value
            words.append(f"{median:9.3f} ms ({low:.3f} to {high:.3f})")
        elif unit == "share":
            words.append(f"{value:.0%} of copy")
        elif unit != "reason":
            words.append(f"{value:.4g} {UNITS.get(unit, unit)}")
    return "  ".join(words)


UNITS = {"tb_s": "TB/s", "tflop_s": "TFLOP/s", "mb": "MB", "tokens_s": "tokens/s"}
"""How the units of the JSON file are printed."""
