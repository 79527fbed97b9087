"""The runs of a grid's tuning: from its arms to trials, and from trials to tuned cells.

What is trained is searched first. Coders are then fitted, at each rate, to the trials that their dense
baseline's search chose: runs of the same tuning seeds, which cost nothing more.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pellucid.errors import EXIT_NONFINITE, EXIT_OK, RunError, UserError
from pellucid.experiments import run_config
from pellucid.storage import files
from pellucid.sweep.fitted import RATE, refitted
from pellucid.sweep.folder import GridFolder
from pellucid.sweep.grid import BASELINE, Cell, Grid, GridError, cell_name
from pellucid.sweep.tuning import METRIC, SELECTED_BY, SPLIT, Point, Tuning, at_edge, chosen, wanted

UNSCORED = ""
"""The suite of trials: they are trained and validated, and nothing else."""
FORMAT = 1
FILE = "tuning.json"
RunTrials = Callable[[Grid, Sequence[Cell], Collection[str]], int]
"""Runs what is missing of some cells; the weights of those that are named are still needed."""


@dataclass(eq=False)
class Search:
    """One arm's search: the cell of its first reported seed, and what was found."""

    arm: Cell
    tuning: Tuning
    """the grid's, with rates of the arm's own where it has any"""
    curve: dict[Point, float | None] = field(default_factory=dict)
    defect: str = ""
    """why a trial could not be run, other than that it diverged"""
    sources: Sequence[Cell] = ()
    """of a post-hoc arm: the dense run of each tuning seed"""

    @property
    def name(self) -> str:
        """The field that is searched."""
        return RATE if self.arm.fit else self.tuning.name

    @property
    def wanted(self) -> list[Point]:
        """What must be tried next; nothing once the search is over."""
        dial = self.tuning.dial_of(self.arm.values)
        return [] if self.defect else wanted(self.curve, self.tuning, dial)

    @property
    def chosen(self) -> Point | None:
        """The best point; None where no trial can be used."""
        return None if self.defect else chosen(self.curve)

    def told_by(self, point: Point) -> list[str]:
        """The words of a point."""
        return [f"{self.name}={point.rate:g}", *point.dial.split()]


def trials(search: Search, points: Sequence[Point]) -> list[Cell]:
    """The runs of points, one for each tuning seed."""
    make = _fits if search.arm.fit else _trainings
    return [cell for point in points for cell in make(search, point)]


def _trainings(search: Search, point: Point) -> Iterator[Cell]:
    arm, told = search.arm, [*search.told_by(point), *search.tuning.words.split()]
    for seed in search.tuning.seeds:
        words = [*_unseeded(arm.words), *told, f"seed={seed}"]
        config = run_config(words)
        values = {**arm.values, "trial": " ".join(told)}
        name = cell_name(values, config)
        yield Cell(name, tuple(words), config, values, seed, matched=arm.matched)


def _fits(search: Search, point: Point) -> Iterator[Cell]:
    told = search.told_by(point)
    for source in search.sources:
        cell = refitted(search.arm, source, told)
        # Fitted to another run it is another trial.
        values = {**cell.values, "trial": " ".join([*told, f"of={source.name}"])}
        name = cell_name(values, cell.config)
        yield replace(cell, name=name, values=values, circuits=None)


def _unseeded(words: Sequence[str]) -> list[str]:
    return [word for word in words if not word.startswith("seed=")]


def searches(grid: Grid, cells: Sequence[Cell]) -> list[Search]:
    """One for each arm, in the grid's order: what is trained before what is fitted to it."""
    first = {cell.arm: cell for cell in reversed(cells)}
    arms = [cell for cell in cells if first[cell.arm] is cell]
    return [Search(arm, _own(arm, grid.tune)) for arm in arms]


def _own(arm: Cell, tuning: Tuning) -> Tuning:
    rates = arm.fit.rates if arm.fit else ()
    return replace(tuning, rates=rates) if rates else tuning


def check_trials(grid: Grid, cells: Sequence[Cell]) -> None:
    """Raise GridError where an arm cannot be told the words of its search, those of dials included.

    A dial is turned last: what is wrong with it would be found when every rate was paid for.
    """
    begun = searches(grid, cells) if grid.tune else []
    for search in begun:
        # Of seeds the largest is the first that could be refused.
        search.tuning = replace(search.tuning, seeds=(max(search.tuning.seeds),))
        first = Point(search.tuning.rates[0])
        dial = [first._replace(dial=words) for words in search.tuning.dial_of(search.arm.values)]
        try:
            if search.arm.fit:
                base = _base(search, begun)
                search.sources = trials(base, [Point(base.tuning.rates[0])])
            trials(search, [first, *dial])
        except UserError as error:
            raise GridError(
                f"{grid.name}, tuning of [{search.arm.arm or 'base'}]: {error}"
            ) from None


def first_round(grid: Grid, cells: Sequence[Cell], folder: GridFolder) -> list[Cell]:
    """The trials that every search begins with; of coders, at what is known of their dense run."""
    begun = searches(grid, cells)
    for search in begun:
        if search.arm.fit:
            base = _base(search, begun)
            point = _remembered(folder, base.arm) or base.wanted[0]
            search.sources = trials(base, [point])
    return [cell for search in begun for cell in trials(search, search.wanted)]


def _remembered(folder: GridFolder, arm: Cell) -> Point | None:
    """What an earlier call chose for an arm."""
    file = folder.path / FILE
    told = files.read_object(file, ("arms",), RunError)["arms"] if file.exists() else []
    found = next((one["chosen"] for one in told if one["values"] == dict(arm.values)), None)
    return Point(**found) if found else None


def _base(search: Search, begun: Sequence[Search]) -> Search:
    """The search of the dense arm that coders are fitted to."""
    return next(other for other in begun if other.arm.name == search.arm.fit.source)


def tuned(
    grid: Grid, cells: Sequence[Cell], folder: GridFolder, run: RunTrials
) -> tuple[int, list[Cell]]:
    """Search with `run` until every arm has its rate; the cells that are told it.

    The exit code is that of a `run` which was stopped. Writes `tuning.json`. Arms of which no trial
    could be used keep their words, and are marked as untuned.
    """
    begun = searches(grid, cells)
    fitted = [search for search in begun if search.arm.fit]
    bases = [_base(search, begun) for search in fitted]
    if code := _follow(begun, [s for s in begun if not s.arm.fit], bases, grid, folder, run):
        return code, []
    for search, base in zip(fitted, bases, strict=True):
        if base.chosen:
            search.sources = trials(base, [base.chosen])
        else:
            search.defect = (
                f"{base.arm.values[BASELINE]}, which it would be fitted to, could not be tuned"
            )
    if code := _follow(begun, fitted, (), grid, folder, run):
        return code, []
    _write(begun, grid.tune, folder)
    if fitted and not any(search.defect for search in fitted):  # or fits may be tried again
        spent = {c.name: c for base in bases for c in trials(base, list(base.curve))}
        run(_unscored(grid), [*spent.values()], ())
    return EXIT_OK, _told_cells(cells, {search.arm.arm: search for search in begun})


def _follow(
    begun: Sequence[Search],
    some: Sequence[Search],
    bases: Sequence[Search],
    grid: Grid,
    folder: GridFolder,
    run: RunTrials,
) -> int:
    """Search for some arms to the end; 0, or the code of a `run` that was stopped.

    `bases` are those whose trials coders are still to be fitted to.
    """
    while open_ := [(search, points) for search in some if (points := search.wanted)]:
        todo = [(search, cell) for search, points in open_ for cell in trials(search, points)]
        needed = {cell.name for search, cell in todo if search in bases}
        if code := run(_unscored(grid), [cell for _, cell in todo], needed):
            return code
        for search, points in open_:
            for point in points:
                _read(search, point, folder)
        _write(begun, grid.tune, folder)
    return EXIT_OK


def _unscored(grid: Grid) -> Grid:
    return replace(grid, suite=UNSCORED, tune=None)


def _read(search: Search, point: Point, folder: GridFolder) -> None:
    """Put a point on the curve: the mean over its seeds."""
    bits = []
    for cell in trials(search, [point]):
        if folder.state(cell.name, UNSCORED) == "failed":
            failure = folder.failure(cell.name)
            search.defect = "" if failure.code == EXIT_NONFINITE else failure.reason
            search.curve[point] = None
            return
        rows = [row for row in folder.run(cell.name).read_metrics() if row["kind"] == "val"]
        bits.append(max(rows, key=lambda row: row["step"])[METRIC])
    search.curve[point] = None if None in bits else sum(bits) / len(bits)


def _told_cells(cells: Sequence[Cell], found: dict[str, Search]) -> list[Cell]:
    """Cells of the same names that are told what was chosen; coders after what they are fitted to."""
    told: dict[str, Cell] = {}
    for cell in cells:
        search = found[cell.arm]
        told[cell.name] = _told_cell(cell, search, search.chosen, told)
    return [*told.values()]


def _told_cell(cell: Cell, search: Search, point: Point | None, known: dict[str, Cell]) -> Cell:
    if point is None:
        return cell
    words = search.told_by(point)
    if cell.fit:
        said = refitted(cell, known[cell.fit.source], words)
    else:
        words = [*_unseeded(cell.words), *words, f"seed={cell.seed}"]
        said = replace(cell, words=tuple(words), config=run_config(words))
    return replace(said, selected_by=SELECTED_BY, untuned=cell)


def _write(begun: Sequence[Search], tuning: Tuning, folder: GridFolder) -> None:
    """Write every curve that has been begun."""
    arms = [_arm(search) for search in begun if search.curve or search.defect]
    about = {"format": FORMAT, "by": METRIC, "split": SPLIT, "field": tuning.name}
    told = {**about, "seeds": list(tuning.seeds), "arms": arms}
    files.write_json(folder.path / FILE, told, RunError)


def _arm(search: Search) -> dict[str, Any]:
    best = search.chosen
    points = sorted(search.curve.items())
    return {
        "values": dict(search.arm.values),
        "field": search.name,
        "curve": [{"rate": p.rate, "dial": p.dial, "bits": bits} for p, bits in points],
        "chosen": None if best is None else best._asdict(),
        "at_edge": at_edge(search.curve),
        "runs": len(search.curve) * len(search.tuning.seeds),
        "defect": search.defect,
    }
