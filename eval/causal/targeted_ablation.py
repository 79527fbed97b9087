"""Targeted ablation: does the model lose a concept, and nothing else, with the units that show it?

U(c) = ΔCE on tokens that realise c / |ΔCE| on the other tokens, on half B, where those units are
ablated whose firing announces such tokens best on half A.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pellucid.eval.bootstrap import Interval
from pellucid.eval.capability.parts import by_part, nothing
from pellucid.eval.causal import ablation
from pellucid.eval.causal.ablation import Ablator, Kind, Sums, damage
from pellucid.eval.causal.chosen import (
    Unit,
    better_than_always,
    densities,
    of_equal_density,
    of_next,
    ranked,
)
from pellucid.eval.causal.passes import Edited, Rows, all_units, nats_of_each, rows_of
from pellucid.eval.causal.resampled import over_documents
from pellucid.eval.concepts.given import truth_of
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.controls import System
from pellucid.eval.score import Score
from pellucid.eval.still import said_of_all
from pellucid.eval.workbench import Workbench

SET = 4
"""Units of a set, at most."""
SIZES = (1, 4, 16)
"""Units of the growing sets between which equal damage is sought."""
LEVEL = 0.05
"""Nats added to tokens that realise a label, at which labels and models are compared."""
DAMAGE = "damage"
"""Part that holds the nats themselves."""
QUICKLY = (5, 2048)
"""Labels and tokens of a quick look."""


class Plan(NamedTuple):
    """What is done: the kind of ablation, how many labels, and on how many tokens of half B."""

    kind: Kind
    labels: int = 10
    tokens: int = 4096
    sizes: tuple[int, ...] = ()
    """sizes of growing sets, where equal damage is sought"""


@dataclass(frozen=True)
class Subject:
    """What is ablated, and where."""

    truth: Truth
    rows: Rows
    seed: int
    kept: dict[Hashable, np.ndarray] = field(default_factory=dict, compare=False)
    """what passes over the rows have cost: kinds of ablation share some of them"""


def targeted_ablation_mean(bench: Workbench) -> list[Score]:
    """Units of ten labels held at their means."""
    return _scores(bench, "targeted_ablation_mean", Plan("mean"))


def targeted_ablation_resample(bench: Workbench) -> list[Score]:
    """Units of ten labels given what they did in another row."""
    return _scores(bench, "targeted_ablation_resample", Plan("resample"))


def targeted_ablation_zero(bench: Workbench) -> list[Score]:
    """Units of ten labels set to 0."""
    return _scores(bench, "targeted_ablation_zero", Plan("zero"))


def targeted_ablation_mean_equal(bench: Workbench) -> list[Score]:
    """Units of ten labels held at their means, as many as do equal damage."""
    return _scores(bench, "targeted_ablation_mean_equal", Plan("mean", sizes=SIZES))


def targeted_ablation_mean_quick(bench: Workbench) -> list[Score]:
    """Units of five labels held at their means."""
    return _scores(bench, "targeted_ablation_mean_quick", Plan("mean", *QUICKLY))


def targeted_ablation_resample_quick(bench: Workbench) -> list[Score]:
    """Units of five labels given what they did in another row."""
    return _scores(bench, "targeted_ablation_resample_quick", Plan("resample", *QUICKLY))


def _scores(bench: Workbench, metric: str, plan: Plan) -> list[Score]:
    name = f"ablation of {plan.labels} labels on {plan.tokens} tokens"
    subject = bench.once(name, bench.reader, lambda _: _subject(bench, plan))
    return by_part(
        bench,
        metric,
        lambda system: measure(system, subject, plan),
        better=lambda part: None if part == DAMAGE else "higher",
        references={"random_units": measure(bench.reader, subject, plan, random=True)},
        flags=said_of_all(bench.reader),
        tokens=subject.rows.tokens.numel(),
    )


def _subject(bench: Workbench, plan: Plan) -> Subject:
    truth = some_labels(of_next(truth_of(bench)), plan.labels)
    about = {"context": bench.reader.context, "tokens": plan.tokens, "seed": bench.seed}
    return Subject(truth, rows_of(bench.stream, truth.half, **about), bench.seed)


def some_labels(truth: Truth, most: int) -> Truth:
    """At most so many labels, evenly spaced over their list."""
    n = len(truth.names)
    return truth.only(np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)))


def measure(
    system: System, subject: Subject, plan: Plan, *, random: bool = False
) -> dict[str | None, Interval]:
    """U of all labels together (None) and of each, and the damage in nats.

    `random` takes living units of equal density in the place of those that were chosen. Raises
    NoValue for a system without units.
    """
    lists, sets = _chosen(system, subject, max(SET, *plan.sizes, SET))
    units = lists if plan.sizes else sets
    if random:
        density = densities(system, subject.truth.a)
        units = [
            of_equal_density(u, density, seed=subject.seed, label=label, avoid=u)
            for label, u in enumerate(units)
        ]
    if not plan.sizes:
        return _intervals(subject, _costs(system, subject, list(enumerate(units)), plan))
    grown = [(label, each[:size]) for label, each in enumerate(units) for size in plan.sizes]
    costs, n = _costs(system, subject, grown, plan), len(plan.sizes)
    curves = [np.stack(costs[i : i + n], axis=1) for i in range(0, len(costs), n)]
    return _at_equal(subject, curves)


Sets = list[tuple[Unit, ...]]


def _chosen(system: System, subject: Subject, most: int) -> tuple[Sets, Sets]:
    """The units of each label, best first; and of these the set that stands for it."""
    shares = subject.truth.held_a / len(subject.truth.a)
    best = ranked(system.harvest, subject.truth, most=most)
    sets = [better_than_always(each, share, SET) for each, share in zip(best, shares, strict=True)]
    return [tuple(one.unit for one in each) for each in best], sets


def _costs(
    system: System, subject: Subject, asked: list[tuple[int, tuple[Unit, ...]]], plan: Plan
) -> list[Sums]:
    """What the ablation of each set of units costs its label; each set is ablated once."""
    made = Ablator(
        system,
        subject.rows,
        subject.truth,
        all_units([units for _, units in asked]),
        resample=plan.kind == "resample",
        seed=subject.seed,
    )
    # Means that were taken together with others may differ in their last digit.
    held = made.held if plan.kind == "mean" else lambda units: ()
    keys = [(id(system), plan.kind, frozenset(units), held(units)) for _, units in asked]
    clean = (id(system),)
    wanted: dict[Hashable, Edited | None] = {clean: None}
    for key, (_, units) in zip(keys, asked, strict=True):
        wanted[key] = made.edits(plan.kind, units)
    new = {key: edits for key, edits in wanted.items() if key not in subject.kept}
    found = nats_of_each(system, subject.rows, list(new.values()))
    subject.kept.update(zip(new, found, strict=True))
    return [
        damage(subject.kept[key] - subject.kept[clean], subject.rows, subject.truth, label)
        for key, (label, _) in zip(keys, asked, strict=True)
    ]


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
