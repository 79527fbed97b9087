"""Do weight-sparse circuits survive the worst case?

`pellucid sweep h3`, then `python -m pellucid.experiments.h3 grids/h3`. Endpoints, declared here, in
log2: the faithful size in bits, and how much more than the real circuit one of nonsense takes. Beside
them, and secondary, stand the circuits at the means alone: their bits, nodes, and edges (those that
pruning leaves, static ones, those with an effect, those active at a token). The published ratio of 16
is one of edges after pruning, at the means; no ratio of bits is to be held against it.

The grid's page sets each arm beside the dense model of as many non-zero weights as the first; the
table of this file beside the dense model of *equal bits per byte*, interpolated in the ladder, seed by
seed and task by task; beyond the ladder nothing is said. Ratios are geometric means over tasks, their
intervals over seeds and tasks, both drawn at random. Confirmed: the lower bound of dense/sparse is
above 4, and nonsense/real above 2. Refuted: the upper bound is below 2. Open otherwise.

A task enters where all arms pass it, rungs among them: in each of their cells the model tells the
answers apart in 90 % of prompts or more. The others are listed with who fails. What no search brings
within the target counts as the whole model, with all of its edges. Searches see prompts with no filler
between cue and answer. Four of the ten tasks have room for it: their circuits at the means are measured
at 8, 32 and 128 tokens of filler, too, and the losses are printed below the ratios; of the other six
there are no such prompts. All arms have the five seeds that the protocol asks of the headline pair only.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pellucid.errors import RunError
from pellucid.experiments import analysis, strata
from pellucid.experiments.ladder import LadderError, size_at
from pellucid.experiments.rungs import usable
from pellucid.report.grid.reading import BASELINE, CellFiles, GridFiles, read_grid
from pellucid.sweep import Circuits, Grid, Tuning
from pellucid.sweep.statistics import Effect, crossed

STEPS, TRIAL = 15_259, 1_831
"""250M and 30M tokens in steps of 16,384: three epochs at most."""
LADDER = (128, 64, 96, 192, 320)
"""d_model of the dense models; the first has as many non-zero weights as a density of 1/64."""
SPARSE = "d_model=1024 attention.n_heads=16 constraint=weight_topk constraint.density={}"
TASKS = (
    *("for_while", "single_double_quote", "set_or_string_fixedvarname", "if_equals", "not_in"),
    *("bracket_counting", "var_swap", "enumerate_range", "final_kwarg", "try_except"),
)
"""Eight of the twenty and two held-out ones; the first five are those of the minimal version."""

FAITHFUL, ALONE = "circuit_faithful_log2_bits", "circuit_log2_bits"
BESIDE = {
    "circuit_log2_nodes": "nodes",
    "circuit_log2_edges": "edges after pruning",
    "circuit_log2_static_edges": "static edges",
    "circuit_log2_effect_edges": "edges with an effect",
    "circuit_log2_dynamic_edges": "edges active at a token",
}
"""Secondary sizes, of the circuits at the means alone."""
NONSENSE, CENSORED = "circuit_nonsense_log2_ratio", "circuit_faithful_censored"
ACCURACY, PASSED, UNKNOWN = "circuit_model_accuracy", 0.9, -1.0
BITS = "bits_per_byte"
CONFIRMED, REFUTED, MEANS_SOMETHING = 2.0, 1.0, 1.0
"""log2 of 4, 2 and 2."""

grid = Grid(
    name="h3",
    base=(
        "tiny data=pypi data.vocab_size=2048 n_layers=4 d_model=256 context=256 train.batch=64 "
        f"train.precision=bf16 train.steps={STEPS}"
    ),
    axes={
        "arm": [
            f"{SPARSE.format('0.015625')} mlp=dense mlp.activation=gelu",
            f"{SPARSE.format('0.00390625')} mlp=dense mlp.activation=gelu",
            f"{SPARSE.format('0.015625')} mlp=topk mlp.width=4096 mlp.k=64",
            "mlp=topk mlp.width=4096 mlp.k=32",
        ]
    },
    baselines={
        f"dense d{d}": f"mlp=dense mlp.activation=gelu attention.n_heads={max(2, d // 64)} d_model={d}"
        for d in LADDER
    },
    seeds=(0, 1, 2, 3, 4),
    endpoints=(FAITHFUL, NONSENSE),
    circuits=Circuits(TASKS, profile="headline", edges=True),
    tune=Tuning(seeds=(100,), words=f"train.steps={TRIAL}"),
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An arm beside the dense model that is as good; effects are log2 of ratios."""

    arm: str
    faithful: Effect
    """dense ÷ arm, of the faithful size in bits"""
    alone: Effect
    """the same where the rest is held at its means, and nothing worse"""
    nonsense: Effect
    """nonsense ÷ real, in the arm"""
    censored: float | None
    """share of the arm's tasks and seeds that are counted as the whole model, of those that enter"""
    censored_dense: float | None
    """the same of the dense models that it is set beside: of large ratios that is another cause"""
    beside: Mapping[str, Effect] = field(default_factory=dict)
    """dense ÷ arm, of the sizes in `BESIDE`"""
    said: tuple[str, ...] = ()
    """what is left out, and why"""

    @property
    def verdict(self) -> str:
        """By the rule that was set before any run."""
        if self.faithful.low is None or self.faithful.high is None:
            return "open"
        means = self.nonsense.value is not None and self.nonsense.value > MEANS_SOMETHING
        if self.faithful.low > CONFIRMED and means:
            return "confirmed"
        return "refuted" if self.faithful.high < REFUTED else "open"


def findings(folder: Path) -> list[Finding]:
    """Every arm of a grid beside its ladder. RunError: no grid, or one without circuits."""
    read = read_grid(folder)
    tasks = _tasks(read)
    rungs = [cell for cell in read.cells if BASELINE in cell.values]
    arms = dict.fromkeys(cell.label for cell in read.cells if BASELINE not in cell.values)
    failed = failing(read.cells, tasks)
    passed = [task for task in tasks if task not in failed]
    said = tuple(f"{task} is left out: {'; '.join(who)}" for task, who in failed.items())
    return [
        _finding([c for c in read.cells if c.label == arm], rungs, passed, said) for arm in arms
    ]


def _tasks(read: GridFiles) -> list[str]:
    if not (asked := read.grid.get("circuits")):
        raise RunError(f"{read.path} was not searched for circuits: its grid declares none")
    return [Path(task).stem for task in asked["tasks"]]


def failing(cells: Sequence[CellFiles], tasks: Sequence[str]) -> dict[str, list[str]]:
    """By task that not all arms pass: which arms fail it, and at what accuracy in the worst seed.

    A cell that is not scored says nothing yet; one that is, and has no accuracy, fails.
    """
    found: dict[str, list[str]] = {}
    for task in tasks:
        worst: dict[str, float] = {}
        for cell in cells:
            if BITS in cell.metrics:
                right = cell.metrics.get(f"{ACCURACY}:{task}", UNKNOWN)
                worst[cell.label] = min(right, worst.get(cell.label, math.inf))
        low = {arm: right for arm, right in worst.items() if right < PASSED}
        if low:
            found[task] = [
                f"{arm} has no accuracy" if right == UNKNOWN else f"{arm} is right in {right:.2f}"
                for arm, right in low.items()
            ]
    return found


def _finding(
    cells: Sequence[CellFiles],
    rungs: Sequence[CellFiles],
    tasks: Sequence[str],
    left_out: Sequence[str],
) -> Finding:
    sizes = (FAITHFUL, ALONE, *BESIDE)
    ratios: dict[str, list[dict[str, float]]] = {metric: [] for metric in (*sizes, NONSENSE)}
    said, full, full_dense = [*left_out], [], []
    for cell in cells:
        try:
            ladder = usable(cell, [rung for rung in rungs if rung.seed == cell.seed], BITS)
            size = size_at(cell.metrics[BITS], {p: rung.metrics[BITS] for p, rung in ladder})
        except LadderError as error:
            said.append(f"seed {cell.seed}: {error}")
            continue
        own = {metric: dict(_parts(cell, metric, tasks)) for metric in (*ratios, CENSORED)}
        for metric in sizes:
            dense = _at(math.log(size), ladder, metric, tasks)
            ratios[metric].append({t: dense[t] - v for t, v in own[metric].items() if t in dense})
        ratios[NONSENSE].append(own[NONSENSE])
        full += own[CENSORED].values()
        full_dense += _at(math.log(size), ladder, CENSORED, tasks).values()
    effects = {}
    for metric, rows in ratios.items():
        known = [task for task in tasks if rows and all(task in row for row in rows)]
        if rows and (lost := [task for task in tasks if task not in known]):
            said.append(f"{metric} is not known everywhere of {', '.join(lost)}")
        effects[metric] = crossed([[row[t] for t in known] for row in rows] if known else [])
    named = {"faithful": FAITHFUL, "alone": ALONE, "nonsense": NONSENSE}
    about: dict = {name: effects[metric] for name, metric in named.items()}
    about["beside"] = {metric: effects[metric] for metric in BESIDE}
    shares = [float(np.mean(each)) if each else None for each in (full, full_dense)]
    about |= dict(zip(("censored", "censored_dense"), shares, strict=True))
    return Finding(arm=cells[0].label, said=tuple(said), **about)


def _parts(cell: CellFiles, metric: str, tasks: Sequence[str]) -> Iterator[tuple[str, float]]:
    for task in tasks:
        if (value := cell.metrics.get(f"{metric}:{task}")) is not None:
            yield task, value


def _at(
    log_size: float,
    ladder: Sequence[tuple[float, CellFiles]],
    metric: str,
    tasks: Sequence[str],
) -> dict[str, float]:
    """By task: what the ladder has at a size, on the line between its neighbours' logarithms."""
    parts = [dict(_parts(rung, metric, tasks)) for _, rung in ladder]
    at = [math.log(parameters) for parameters, _ in ladder]
    known = [task for task in tasks if all(task in part for part in parts)]
    return {t: float(np.interp(log_size, at, [part[t] for part in parts])) for t in known}


def table(found: Sequence[Finding]) -> str:
    """The findings as Markdown; ratios with their 95 % intervals."""
    head = (
        *("arm", "dense / arm, faithful bits", "bits at the means alone", "nonsense / real"),
        *("counted whole, dense / arm", "seeds", "verdict"),
    )
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for one in found:
        ratios = [_ratio(effect) for effect in (one.faithful, one.alone, one.nonsense)]
        shares = (one.censored_dense, one.censored)
        whole = " / ".join("–" if share is None else f"{share:.0%}" for share in shares)
        row = [one.arm, *ratios, whole, str(one.faithful.n), one.verdict]
        lines.append(f"| {' | '.join(row)} |")
    notes = [f"{one.arm}: {said}" for one in found for said in one.said]
    notes += [f"{one.arm}: {flag}" for one in found for flag in one.faithful.flags]
    return "\n".join([*lines, "", *_secondary(found), "", *notes]).strip()


def _secondary(found: Sequence[Finding]) -> list[str]:
    head = ("arm", *(f"dense / arm, {name}" for name in BESIDE.values()))
    lines = ["At the means alone, secondary:", ""]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for one in found:
        ratios = [_ratio(one.beside[metric]) if metric in one.beside else "–" for metric in BESIDE]
        lines.append(f"| {' | '.join([one.arm, *ratios])} |")
    return lines


def distances(folder: Path) -> str:
    """Losses by distance of the tasks that all arms pass, as Markdown; of dense models, too."""
    read = read_grid(folder)
    tasks = _tasks(read)
    failed = failing(read.cells, tasks)
    passed = [task for task in tasks if task not in failed]
    shown = strata.table(strata.by_distance(read.path, read.cells, passed))
    head = (
        "Loss of the circuit / of the whole model, in nats, by tokens of filler before the answer:"
    )
    return f"{head}\n\n{shown}" if shown else ""


def _ratio(found: Effect) -> str:
    if found.value is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{2**found.value:.3g}"
    return f"{2**found.value:.3g} ({2**found.low:.3g} … {2**found.high:.3g})"


def told(folder: Path) -> str:
    """All that is printed of a grid."""
    return "\n\n".join(part for part in (table(findings(folder)), distances(folder)) if part)


if __name__ == "__main__":
    sys.exit(analysis(told, sys.argv[1:]))
