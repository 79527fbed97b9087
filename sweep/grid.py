"""An ablation as data: axes × seeds, baselines, and the endpoints it was made for."""

import importlib.util
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from pellucid.config import RunConfig, identity_hash
from pellucid.errors import UserError
from pellucid.experiments import ladder, run_config
from pellucid.settings.kinds import nearest
from pellucid.sweep.circuits import Circuits
from pellucid.sweep.fitted import Fit, fitted_cells
from pellucid.sweep.kinds import check_kinds
from pellucid.sweep.matched import Matched, solved
from pellucid.sweep.tuning import Tuning, check_dials, disjoint

ENDPOINTS = 2
"""Primary endpoints that a grid may declare."""
BASELINE = "baseline"
RESERVED = (BASELINE, "trial")
"""Names that cells have for something else than an axis."""
LONGEST = 60
"""Characters of a cell's name before its seed."""
NAME = re.compile(r"[\w=.,@+-]+")


class GridError(UserError):
    """A grid that contradicts itself, or a folder that holds another one."""


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    name: str
    words: tuple[str, ...]
    """what `pellucid train` would be told"""
    config: RunConfig
    values: Mapping[str, str]
    """the value of each axis; of a baseline, its name under `baseline`"""
    seed: int
    selected_by: tuple[str, ...] = ()
    """metrics that chose its settings, for its manifest"""
    untuned: "Cell | None" = None
    """the cell as the grid asks for it, where tuning has told it more"""
    circuits: Circuits | None = None
    """what it is searched for before it is scored"""
    fit: Fit | None = None
    """of a post-hoc arm: what is fitted to which other cell, in place of training"""
    matched: Mapping[str, Any] | None = None
    """of a matched baseline, for its manifest: what it was matched with, and how closely"""
    against: tuple[str, ...] = ()
    """once it is scored: cells of other seeds that its units are to be compared with"""

    @property
    def arm(self) -> str:
        """All that two cells of different seeds share."""
        return ", ".join(f"{axis}: {value}" for axis, value in self.values.items())

    @property
    def identity(self) -> str:
        return identity_hash(self.config)

    @property
    def tokens(self) -> int:
        """Tokens that the cell is trained on."""
        train = self.config.train
        return train.steps * train.batch * self.config.model.context


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of the axes' values, with every seed, and the baselines beside them.

    Values and baselines are words as on the command line (`mlp=topk mlp.k=16`); an empty value is
    `base` as it is. A baseline may be matched: `match=dense by=flops`; `by=loss` makes a ladder of
    it, one baseline a rung. Raises GridError, or
    ConfigError naming the axis, when its cells are asked for.
    """

    name: str
    base: str = "tiny"
    """preset and words that all cells share"""
    axes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seeds: Sequence[int] = (0, 1, 2)
    baselines: Mapping[str, str] = field(default_factory=dict)
    posthoc: Mapping[str, str] = field(default_factory=dict)
    """by name, words of `pellucid posthoc`: coders for the baseline that `of=` names (dense), and
    the rates, if others than tune's, that their search begins with (`lr=5e-4,1e-3,2e-3,4e-3`)"""
    endpoints: Sequence[str] = ()
    """metrics, or parts of them, declared before anything is run: at most two, the rest is
    exploratory"""
    margins: Mapping[str, float] = field(default_factory=dict)
    """by endpoint: a difference that would not matter; within it, arms may be called equal"""
    suite: str = "quick"
    """what each finished cell is scored with"""
    consistency: bool = False
    """whether cells are scored against the other seeds of their arm, in the end (docs/sweep.md)"""
    circuits: Circuits | None = None
    """what each finished cell is searched for; the sizes found are scores of it"""
    tune: Tuning | None = None
    """the search that chooses every arm's learning rate; without it nothing is ranked"""

    def __post_init__(self) -> None:
        with _named(self.name, "its fields"):
            check_kinds(self)
        with _named(self.name, "baselines"):
            object.__setattr__(self, "baselines", ladder.expanded(self.baselines))

    @property
    def split(self) -> str:
        """Where cells are scored: tuning has seen the val split."""
        return "test" if self.tune else "val"

    def cells(self, matched: Mapping[str, Matched] | None = None) -> list[Cell]:
        """All cells, baselines and what is fitted to them last; every one a different run.

        `matched` gives baselines that were matched before: times differ every time.
        """
        self.check()
        cells = [*self._combinations(), *self._baselines(self.matches(matched or {}))]
        self._check_tuned(cells)
        with _named(self.name, "posthoc"):
            fitted = fitted_cells(self.posthoc, cells, self.tune)
            cells += [replace(cell, circuits=self.circuits) for cell in fitted]
        self._check_different(cells)
        return cells

    def _check_different(self, cells: Sequence[Cell]) -> None:
        """Refuse cells that are the same run, and cells that would share a folder."""
        runs: dict[str, Cell] = {}
        folders: dict[str, Cell] = {}
        for cell in cells:
            other = runs.setdefault(cell.identity, cell)
            if other is not cell:
                raise GridError(
                    f"{self.name}: [{cell.arm}] and [{other.arm}] with seed {cell.seed} are the "
                    f"same run; each cell must differ from every other"
                )
            other = folders.setdefault(cell.name, cell)
            if other is not cell:
                raise GridError(
                    f"{self.name}: [{cell.arm}] and [{other.arm}] would share the folder "
                    f"{cell.name}; names that differ in letters, digits or .,@+- are accepted"
                )

    def _check_tuned(self, cells: Sequence[Cell]) -> None:
        if self.tune is None:
            return
        disjoint(self.tune, self.seeds)
        values = [value for axis in self.axes.values() for value in axis]
        check_dials(self.tune, [*values, *self.baselines, *self.posthoc])
        names = {self.tune.name, self.tune.name.removeprefix("train.")}
        for cell in cells:
            self.tune.dial_of(cell.values)
            values = " ".join(v for k, v in cell.values.items() if k != BASELINE).split()
            if told := next((w for w in values if w.partition("=")[0] in names), None):
                raise GridError(
                    f"{self.name}: [{cell.arm}] sets {told}, which tune chooses; an axis of other "
                    f"fields is accepted, or a grid without tune"
                )

    def _combinations(self) -> Iterator[Cell]:
        for values in product(*self.axes.values()):
            named = dict(zip(self.axes, values, strict=True))
            words = [*self.base.split(), *(word for value in values for word in value.split())]
            for seed in self.seeds:
                yield self._cell(named, words, seed)

    def _baselines(self, matched: Mapping[str, Matched]) -> Iterator[Cell]:
        for name, value in self.baselines.items():
            found = matched.get(name)
            words = found.words if found else [*self.base.split(), *value.split()]
            for seed in self.seeds:
                cell = self._cell({BASELINE: name}, words, seed)
                yield replace(cell, matched=found.facts) if found else cell

    def matches(self, known: Mapping[str, Matched]) -> dict[str, Matched]:
        """What the baselines come to that are matched to the base: as it is known, or solved now."""
        found = dict(known)
        for name, value in self.baselines.items():
            with _named(self.name, f"baseline {name}"):
                one = found.get(name) or solved(self.base, value)
            found |= {name: one} if one else {}
        return found

    def _cell(self, values: Mapping[str, str], words: Sequence[str], seed: int) -> Cell:
        words = [*words, f"seed={seed}"]
        with _named(self.name, ", ".join(f"{axis} = {v!r}" for axis, v in values.items())):
            config = run_config(words)
        about = cell_name(values, config), tuple(words), config, values, seed
        return Cell(*about, circuits=self.circuits)

    def check(self) -> None:
        """Raise GridError for what no grid may be, before any cell is made."""
        if not NAME.fullmatch(self.name):
            raise GridError(
                f"a grid's name is {self.name!r}: letters, digits and =.,@+- are accepted"
            )
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise GridError(
                f"{self.name}: seeds are {tuple(self.seeds)}; different ones are accepted"
            )
        if len(self.endpoints) > ENDPOINTS:
            raise GridError(
                f"{self.name} declares {len(self.endpoints)} endpoints; at most {ENDPOINTS} are "
                f"accepted, everything else is exploratory"
            )
        self._check_endpoints()
        self._check_margins()
        for axis in self.axes:
            if axis in RESERVED:
                raise GridError(f"{self.name}: an axis is named {axis}; another name is accepted")

    def _check_margins(self) -> None:
        for endpoint, margin in self.margins.items():
            if endpoint not in self.endpoints or not 0 < margin < math.inf:
                raise GridError(
                    f"{self.name}: margins give {endpoint!r} {margin}; a number above 0 for a "
                    f"declared endpoint is accepted"
                )

    def _check_endpoints(self) -> None:
        """An endpoint is a metric of the suite, or a part of one: `explained_loss:64bits`."""
        from pellucid.eval.suite import METRICS, SUITES

        if self.suite not in SUITES:
            raise GridError(
                f"{self.name}: suite is {self.suite!r}; {', '.join(SUITES)} are accepted"
            )
        measured = [name for name, metric in METRICS.items() if self.suite in metric.suites]
        sizes = self._sizes()
        for endpoint in self.endpoints:
            of_suite = (re.match(rf"{re.escape(name)}(?:[:_]|$)", endpoint) for name in measured)
            if endpoint not in sizes and not any(of_suite):
                raise GridError(
                    f"{self.name}: endpoint {endpoint!r} is no metric of the suite "
                    f"{self.suite}{nearest(endpoint, [*measured, *sizes])}"
                )

    def _sizes(self) -> list[str]:
        """What circuits give every cell, over all tasks and of each: here all parts are known."""
        if self.circuits is None:
            return []
        if not isinstance(self.circuits, Circuits):
            raise GridError(f"{self.name}: circuits is {self.circuits!r}; Circuits(…) is accepted")
        with _named(self.name, "circuits"):
            self.circuits.check()
        metrics = self.circuits.metrics
        return [*metrics, *(f"{m}:{task}" for m in metrics for task in self.circuits.names)]


def cell_name(values: Mapping[str, str], config: RunConfig) -> str:
    """A cell's folder: the words of its axes and its seed; where they are long, a hash beside."""
    plain = ",".join(word for value in values.values() for word in value.split()) or "base"
    slug = re.sub(r"[^\w=.,@+-]", "_", plain, flags=re.ASCII)
    if slug != plain or len(slug) > LONGEST:
        slug = f"{slug[:LONGEST]}-{identity_hash(config)[:8]}"
    return f"{slug}-seed{config.seed}"


class _named:
    """Say in a mistake of which grid and axis it is."""

    def __init__(self, grid: str, what: str):
        self.grid, self.what = grid, what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, UserError):
            raise GridError(f"{self.grid}, {self.what or 'base'}: {error}") from None


def load_grid(file: str) -> Grid:
    """The grid in a Python file (its `grid`), or of that name among those that ship."""
    path = Path(file)
    if path.suffix != ".py":
        path = Path(__file__).resolve().parent.parent / "experiments" / f"{file}.py"
    if not path.is_file():
        raise GridError(f"there is no grid {file}: give the path of a Python file that holds one")
    spec = importlib.util.spec_from_file_location(f"grid_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise GridError(f"{path} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise GridError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    grid = getattr(module, "grid", None)
    if not isinstance(grid, Grid):
        raise GridError(f"{path} holds no `grid = Grid(…)`")
    return grid
