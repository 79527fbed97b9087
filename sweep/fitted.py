"""Post-hoc arms of a grid: coders fitted to the run of a dense baseline, seed for seed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pellucid.errors import EXIT_USER, UserError
from pellucid.posthoc.config import PosthocConfig, expand
from pellucid.posthoc.splice import check, fitted_config

if TYPE_CHECKING:
    from pellucid.sweep.folder import GridFolder
    from pellucid.sweep.grid import Cell
    from pellucid.sweep.tuning import Tuning

SOURCE = "dense"
"""The baseline that coders are fitted to where `of=` names no other."""
RATE = "lr"
"""The field of coders that a grid's search chooses."""


@dataclass(frozen=True)
class Fit:
    """How a cell is made of the run of another one."""

    source: str
    """name of the cell"""
    words: tuple[str, ...]
    """what `pellucid posthoc` is told, one rate among it: of several the first, until one is chosen"""
    rates: tuple[float, ...] = ()
    """those that the search begins with; none are the grid's"""


def fitted_cells(
    posthoc: Mapping[str, str], cells: "Sequence[Cell]", tune: "Tuning | None"
) -> "Iterator[Cell]":
    """A cell for each post-hoc arm and seed; UserError where one cannot be."""
    for name, value in posthoc.items():
        words = value.split()
        of = next((w.removeprefix("of=") for w in words if w.startswith("of=")), SOURCE)
        given = [word for word in words if not word.startswith("of=")]
        sources = [cell for cell in cells if cell.values == {"baseline": of}]
        if not sources:
            raise UserError(
                f"post-hoc {name}: of={of} names no baseline; the name of one is accepted"
            )
        if any(cell.values == {"baseline": name} for cell in cells):
            raise UserError(f"post-hoc {name}: a baseline has that name; another one is accepted")
        for source in sources:
            yield _cell(name, [*given, f"seed={source.seed}"], source, tune)


def _cell(name: str, given: list[str], source: "Cell", tune: "Tuning | None") -> "Cell":
    fits = expand(given)
    if len({(fit.k, fit.width) for fit in fits}) > 1:
        raise UserError(f"post-hoc {name}: one k and one width are accepted, and several rates")
    rates = _rates(name, given, fits, tune)
    check(source.config.model, f"the baseline {source.values['baseline']}")
    slug = re.sub(r"[^\w.,@+-]", "_", name, flags=re.ASCII)
    return replace(
        source,
        name=f"posthoc-{slug}-seed{source.seed}",
        words=("posthoc", source.name, *given),
        config=fitted_config(source.config, fits[0], source.name),
        values={"baseline": name},
        fit=Fit(source.name, tuple(word.partition(",")[0] for word in given), rates),
        matched=None,
    )


def _rates(
    name: str, given: Sequence[str], fits: Sequence[PosthocConfig], tune: "Tuning | None"
) -> tuple[float, ...]:
    """The rates that the words name; UserError unless they are as many as every arm tries."""
    if not any(word.startswith(f"{RATE}=") for word in given):
        return ()
    rates = tuple(dict.fromkeys(fit.lr for fit in fits))
    if tune is None and len(rates) > 1:
        raise UserError(
            f"post-hoc {name}: {RATE} gives {len(rates)} rates, of which tune=Tuning(…) would choose; "
            f"without it one is accepted"
        )
    if tune and len(rates) != len(tune.rates):
        raise UserError(
            f"post-hoc {name}: {RATE} gives {len(rates)} rates; {len(tune.rates)} are accepted, as "
            f"many as tune gives every arm, or none, which takes those"
        )
    return rates


def refitted(cell: "Cell", source: "Cell", told: Sequence[str]) -> "Cell":
    """A cell of coders fitted to another run, whose seed it takes, and told more words.

    Raises UserError where they ask for several coders.
    """
    told = [*told, f"seed={source.seed}"]
    fields = {word.partition("=")[0] for word in told}
    words = [*(w for w in cell.fit.words if w.partition("=")[0] not in fields), *told]
    if several := next((w for w in told if len(expand([w])) > 1), None):
        raise UserError(
            f"post-hoc {cell.values['baseline']}: {several} gives several values; one is accepted"
        )
    return replace(
        cell,
        words=("posthoc", source.name, *words),
        config=fitted_config(source.config, expand(words)[0], source.name),
        seed=source.seed,
        fit=replace(cell.fit, source=source.name, words=tuple(words)),
    )


def give_up_orphans(folder: "GridFolder", cells: "Sequence[Cell]") -> None:
    """Fail the cells that would be fitted to a run that failed."""
    from pellucid.sweep.folder import Failure

    for cell in cells:
        if cell.fit and folder.state(cell.fit.source, "") == "failed":
            reason = f"{cell.fit.source}, which it would be fitted to, failed"
            folder.fail(cell.name, Failure(reason, EXIT_USER, 1))


def needed(folder: "GridFolder", cells: "Sequence[Cell]", suite: str) -> set[str]:
    """Cells whose weights are still to be fitted to."""
    open_ = [c for c in cells if c.fit and folder.state(c.name, suite) not in ("done", "failed")]
    return {cell.fit.source for cell in open_}
