"""Targeted ablation: does the model lose a concept, and nothing else, with the units that show it?

U(c) = ΔCE on tokens that realise c / |ΔCE| on the other tokens, on half B, where those units are
ablated whose firing announces such tokens best on half A.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pellucid.eval.bootstrap import Interval
from pellucid.eval.capability.parts import by_part, nothing
from pellucid.eval.causal import ablation
from pellucid.eval.causal.ablation import KINDS, Ablator, Kind, Sums, damage
from pellucid.eval.causal.chosen import (
    Unit,
    better_than_always,
    densities,
    of_equal_density,
    of_next,
    ranked,
)
from pellucid.eval.causal.passes import Rows, all_units, nats, rows_of
from pellucid.eval.causal.resampled import over_documents
from pellucid.eval.concepts.given import truth_of
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.controls import System
from pellucid.eval.score import Score
from pellucid.eval.workbench import Workbench

SET = 4
"""Units of a set, at most."""
SIZES = (1, 4, 16)
"""Units of the growing sets between which equal damage is sought."""
LEVEL = 0.05
"""Nats added to tokens that realise a label, at which labels and models are compared."""
DAMAGE = "damage"
"""Part that holds the nats themselves."""
PREFIX = "targeted_ablation_"


class Plan(NamedTuple):
    """How much is done: labels, tokens of half B, kinds of ablation, sizes of growing sets."""

    labels: int
    tokens: int
    kinds: tuple[Kind, ...]
    sizes: tuple[int, ...] = ()


QUICK = Plan(labels=5, tokens=2048, kinds=("mean", "resample"))
STANDARD = Plan(labels=12, tokens=4096, kinds=KINDS, sizes=SIZES)


@dataclass(frozen=True)
class Subject:
    """What is ablated, and where."""

    truth: Truth
    rows: Rows
    seed: int


def targeted_ablation(bench: Workbench) -> list[Score]:
    """Mean, resample and zero ablation of twelve labels' units, and at equal damage."""
    return _scores(bench, STANDARD)


def targeted_ablation_quick(bench: Workbench) -> list[Score]:
    """Mean and resample ablation of five labels' units."""
    return _scores(bench, QUICK)


def _scores(bench: Workbench, plan: Plan) -> list[Score]:
    truth = some_labels(of_next(truth_of(bench)), plan.labels)
    rows = rows_of(
        bench.stream, truth.half, context=bench.reader.context, tokens=plan.tokens, seed=bench.seed
    )
    subject = Subject(truth, rows, bench.seed)
    taken: dict[int, dict[str, dict[str | None, Interval]]] = {}

    def of(system: System, random: bool = False) -> dict[str, dict[str | None, Interval]]:
        key = -1 if random else id(system)
        if key not in taken:
            taken[key] = measure(system, subject, plan, random=random)
        return taken[key]

    names = [*plan.kinds, *(["mean_at_equal_damage"] if plan.sizes else [])]
    scores = []
    for name in names:
        beside = {"random_units": of(bench.reader, random=True)[name]}
        scores += by_part(
            bench,
            PREFIX + name,
            lambda system, name=name: of(system)[name],
            better=lambda part: None if part == DAMAGE else "higher",
            references=beside,
            tokens=rows.tokens.numel(),
        )
    return scores


def some_labels(truth: Truth, most: int) -> Truth:
    """At most so many labels, evenly spaced over their list."""
    n = len(truth.names)
    return truth.only(np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)))


def measure(
    system: System, subject: Subject, plan: Plan, *, random: bool = False
) -> dict[str, dict[str | None, Interval]]:
    """By kind of ablation: U of all labels together (None) and of each, and the damage in nats.

    `random` takes living units of equal density in the place of those that were chosen.
    """
    lists, sets = _chosen(system, subject, max(SET, *plan.sizes, SET))
    if random:
        density = densities(system.harvest, subject.truth.a)
        alike = lambda units: of_equal_density(units, density, seed=subject.seed, avoid=units)
        lists, sets = [alike(each) for each in lists], [alike(each) for each in sets]
    ablate = _ablating(system, subject, [*sets, *(lists if plan.sizes else [])], plan)
    found = {
        kind: _intervals(subject, [ablate(i, kind, each) for i, each in enumerate(sets)])
        for kind in plan.kinds
    }
    if plan.sizes:
        curves = [
            np.stack([ablate(i, "mean", each[:size]) for size in plan.sizes], axis=1)
            for i, each in enumerate(lists)
        ]
        found["mean_at_equal_damage"] = _at_equal(subject, curves)
    return found


Sets = list[tuple[Unit, ...]]


def _chosen(system: System, subject: Subject, most: int) -> tuple[Sets, Sets]:
    """The units of each label, best first; and of these the set that stands for it."""
    shares = subject.truth.held_a / len(subject.truth.a)
    best = ranked(system.harvest, subject.truth, most=most)
    sets = [better_than_always(each, share, SET) for each, share in zip(best, shares, strict=True)]
    return [tuple(unit for unit, _ in each) for each in best], sets


def _ablating(
    system: System, subject: Subject, sets: Sets, plan: Plan
) -> Callable[[int, Kind, tuple[Unit, ...]], Sums]:
    """What an ablation costs a label, each set of units ablated once."""
    model, stream, rows = system.model, system.stream, subject.rows
    made = Ablator(
        system,
        rows,
        subject.truth,
        all_units(sets),
        resample="resample" in plan.kinds,
        seed=subject.seed,
    )
    clean = nats(model, rows, stream)
    kept: dict[tuple[Kind, frozenset[Unit]], np.ndarray] = {}

    def cost(label: int, kind: Kind, units: tuple[Unit, ...]) -> Sums:
        key = kind, frozenset(units)
        if key not in kept:
            kept[key] = nats(model, rows, stream, made.edits(kind, units)) - clean
        return damage(kept[key], rows, subject.truth, label)

    return cost


def _intervals(subject: Subject, sums: list[Sums]) -> dict[str | None, Interval]:
    names, every = subject.truth.names, np.stack(sums, axis=1)
    # A label that no token of the rows realises has no damage to speak of.
    held = [i for i in range(len(names)) if every[:, i, 1].sum() and every[:, i, 3].sum()]
    about = {"seed": subject.seed, "weights": every[:, 0, 1] + every[:, 0, 3]}
    found = {name: nothing("no token that was read realises it") for name in names}
    for i in held:
        own = {**about, "weights": every[:, i, 1]}
        found[names[i]] = over_documents(every[:, [i]], ablation.selectivity, **own)
    if not held:
        return {None: nothing("no token that was read realises a label"), **found}
    nats_there: Callable[[Float[np.ndarray, "draw label 4"]], np.ndarray] = lambda drawn: (
        np.nanmean(ablation.means(drawn)[0], axis=1)
    )
    return {
        None: over_documents(every[:, held], _selectivity, **about),
        DAMAGE: over_documents(every[:, held], nats_there, **about),
        **found,
    }


def _selectivity(drawn: Float[np.ndarray, "draw label 4"]) -> Float[np.ndarray, " draw"]:
    """Selectivity over the labels that a draw of documents holds at all."""
    present = (drawn[..., 1] > 0) & (drawn[..., 3] > 0)
    return ablation.selectivity(np.where(present[..., None], drawn, [0.0, 1.0, 0.0, 1.0]))


def _at_equal(subject: Subject, curves: list[np.ndarray]) -> dict[str | None, Interval]:
    names, every = subject.truth.names, np.stack(curves, axis=1)
    at_level = lambda drawn: ablation.at_equal_damage(drawn, LEVEL)
    about = {"seed": subject.seed, "weights": every[:, 0, 0, 1] + every[:, 0, 0, 3]}
    found: dict[str | None, Interval] = {}
    for i, name in enumerate(names):
        reached = ablation.means(every[:, i].sum(0))[0].max() >= LEVEL
        found[name] = (
            over_documents(every[:, [i]], at_level, **about)
            if reached
            else nothing(
                f"no set of up to {SIZES[-1]} units adds {LEVEL} nats where it is realised"
            )
        )
    if all(interval.value is None for interval in found.values()):
        return {None: nothing(f"no label's units add {LEVEL} nats where it is realised"), **found}
    return {None: over_documents(every, at_level, **about), **found}
