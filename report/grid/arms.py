"""Arms of a grid: cells that differ in nothing but the seed, and which of them may be ranked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from typing import Any

from pellucid.report.grid.reading import BASELINE, CellFiles, GridFiles
from pellucid.report.wording import number, words
from pellucid.sweep.fitted import RATE as CODER_RATE
from pellucid.sweep.statistics import Effect, effect
from pellucid.sweep.tuning import FIELDS

NGRAM, INDUCTION = "bits_saved_over_5gram", "induction"
BITS = "bits_per_byte"
UNITS = "mean_active_units"
RATES = FIELDS[0], CODER_RATE
"""Fields of a search whose values stand in a run's configuration as its learning rate."""
COLORS = 8
AT_EDGE = "best learning rate at the edge of the search"


@dataclass(kw_only=True)
class Arm:
    """Cells of all seeds, on the same data."""

    label: str
    values: Mapping[str, str]
    group: str
    cells: list[CellFiles] = field(default_factory=list)
    index: int = 0
    """its number on the page"""
    barred: list[str] = field(default_factory=list)
    """why it is not ranked"""
    rank: int | None = None

    @property
    def is_baseline(self) -> bool:
        return BASELINE in self.values

    @property
    def kind(self) -> str:
        """How it is drawn everywhere: one of the colors, or as a baseline."""
        return "base" if self.is_baseline else f"c{self.index % COLORS}"

    @property
    def matched(self) -> list[str]:
        """What its cells were matched with: of one grid the same for all seeds."""
        return list(dict.fromkeys(cell.matched for cell in self.cells if cell.matched))

    @property
    def marks(self) -> list[str]:
        """What a reader must know of its cells: each mark once, with the seeds it is true of.

        The first is what part of a post-hoc arm's time was the dense run's, the mean over seeds.
        """
        seeds: dict[str, list[int]] = {}
        for cell in self.cells:
            refused = [f"{words(metric)} refused" for metric in cell.refused]
            for mark in (*cell.marks, *refused):
                seeds.setdefault(mark, []).append(cell.seed)
        every = len(self.cells)
        said = {
            mark: "" if len(which) == every else f"seed {', '.join(map(str, which))}: "
            for mark, which in seeds.items()
        }
        return [*self._parts(), *(where + mark for mark, where in said.items())]

    def _parts(self) -> list[str]:
        found = [cell.parts for cell in self.cells if cell.parts]
        if not found:
            return []
        fit, dense = (number(sum(each) / len(found)) for each in zip(*found, strict=True))
        return [f"{dense} s of the dense run and {fit} s of fitting"]

    def by_seed(self, metric: str) -> dict[int, float]:
        """The metric, or the cost, of each seed that has it."""
        found = {cell.seed: {**cell.costs, **cell.metrics}.get(metric) for cell in self.cells}
        return {seed: value for seed, value in found.items() if value is not None}

    def mean(self, metric: str) -> Effect:
        """Its mean over seeds with Student's interval."""
        return effect([*self.by_seed(metric).values()])

    def twin(self, metric: str) -> float | None:
        """What its cells' random twins score at the metric, in the mean over seeds; None: unknown."""
        found = [cell.twins[metric] for cell in self.cells if metric in cell.twins]
        return sum(found) / len(found) if found else None


@dataclass(frozen=True)
class Group:
    """Arms that were trained on the same data, from the same weights."""

    letter: str
    fingerprint: str
    arms: list[Arm]
    reference: Arm | None
    """what the others are compared with: the first baseline, or else the first arm"""


def groups(files: GridFiles) -> list[Group]:
    """The groups of a grid, with its arms in the grid's order; cells without scores in none."""
    keys = list(dict.fromkeys(cell.key for cell in files.cells if cell.state == "done"))
    found, index = [], 0
    for place, key in enumerate(keys):
        alike = [cell for cell in files.cells if cell.state == "done" and cell.key == key]
        arms = _arms(alike, _letter(place))
        for arm in arms:
            index += 1
            arm.index = index
            arm.barred = barred(arm, files.tuning, files.grid["seeds"])
        rank(arms, files.grid["endpoints"])
        reference = next((arm for arm in arms if arm.is_baseline), arms[0])
        found.append(Group(_letter(place), str(key[0]), arms, reference))
    return found


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"group {number + 1}"


def _arms(cells: Sequence[CellFiles], letter: str) -> list[Arm]:
    arms: dict[tuple[tuple[str, str], ...], Arm] = {}
    for cell in cells:
        key = tuple(cell.values.items())
        arm = arms.setdefault(key, Arm(label=cell.label, values=cell.values, group=letter))
        arm.cells.append(cell)
    return list(arms.values())


def barred(arm: Arm, tuning: Mapping[str, Any] | None, seeds: Sequence[int] = ()) -> list[str]:
    """Why an arm is not ranked: untuned, no better than a 5-gram, copying like noise, or incomplete.

    Of the grid's `seeds` an arm needs all: seeds move all arms alike, and one that diverged would
    leave the others to speak for it.
    """
    reasons = _untuned(arm, tuning or {})
    saved = arm.mean(NGRAM).value
    if len(arm.by_seed(NGRAM)) < len(arm.cells):
        reasons.append("not compared with a 5-gram")
    elif saved <= 0:
        reasons.append("does not beat the 5-gram")
    lacking = [str(seed) for seed in seeds if seed not in {cell.seed for cell in arm.cells}]
    return reasons + _copies(arm) + ([f"lacks seed {', '.join(lacking)}"] if lacking else [])


def _untuned(arm: Arm, tuning: Mapping[str, Any]) -> list[str]:
    searched = tuning.get("arms", [])
    found = next((one for one in searched if one.get("values") == dict(arm.values)), None)
    if found is None or found.get("chosen") is None:
        return ["untuned"]
    name = found.get("field", tuning.get("field"))
    rates = [cell.rate for cell in arm.cells if cell.rate and name in RATES]
    # The chosen rate has gone through words, of six digits.
    if not all(isclose(rate, found["chosen"]["rate"], rel_tol=1e-5) for rate in rates):
        return ["not trained at the rate that was chosen"]
    return [AT_EDGE] if found.get("at_edge") else []


def _copies(arm: Arm) -> list[str]:
    """Whether its induction score is better than its random twin's; both must be known."""
    known = [c for c in arm.cells if INDUCTION in c.metrics and INDUCTION in c.twins]
    if len(known) < len(arm.cells):
        return ["induction not compared with its random twin's"]
    signs = [1 if cell.better.get(INDUCTION) == "higher" else -1 for cell in known]
    gains = [
        s * (c.metrics[INDUCTION] - c.twins[INDUCTION]) for s, c in zip(signs, known, strict=True)
    ]
    return ["induction no better than its random twin's"] if sum(gains) <= 0 else []


def rank(arms: Sequence[Arm], endpoints: Sequence[str]) -> None:
    """Number the arms that may be ranked by the first endpoint that has a better side."""
    ways = better_of(arms)
    metric = next((name for name in (*endpoints, BITS) if name in ways), None)
    if metric is None:
        return
    sign = 1 if ways[metric] == "lower" else -1
    fit = [arm for arm in arms if not arm.barred and arm.mean(metric).value is not None]
    for place, arm in enumerate(sorted(fit, key=lambda a: sign * a.mean(metric).value), 1):
        arm.rank = place


def better_of(arms: Sequence[Arm]) -> dict[str, str]:
    """Which way each metric is better, for those of which that can be said."""
    return {k: way for arm in arms for cell in arm.cells for k, way in cell.better.items()}


def metrics_of(arms: Sequence[Arm]) -> list[str]:
    """All metrics that any cell has, in the order in which they were measured."""
    return list(dict.fromkeys(name for arm in arms for c in arm.cells for name in c.metrics))
