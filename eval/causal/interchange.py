"""Interchange interventions: does a handful of units hold what decides a task's answer?

Units of a prompt take the values they have in its partner, whose cue differs; a model whose answer
hangs on them then gives the partner's answer (IIA of MIB, arXiv 2504.13151).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from pellucid.errors import UserError
from pellucid.eval.bootstrap import Interval, mean, ratio
from pellucid.eval.capability.answers import wins
from pellucid.eval.capability.parts import by_part, nothing, tokenizer_of
from pellucid.eval.capability.tasks import FAMILY
from pellucid.eval.causal.attribution import attributions, strongest
from pellucid.eval.causal.chosen import Unit
from pellucid.eval.causal.prompts import Place, Prompts, Swap, Swapper, margins
from pellucid.eval.controls import System
from pellucid.eval.score import NoValue, Score
from pellucid.eval.still import said_of_all
from pellucid.eval.tasks import TASKS, TaskBatch, draw
from pellucid.eval.workbench import Workbench

PAIRS, QUICK_PAIRS = 20, 32
"""Pairs of a task: on the first half units are chosen, on the other they are scored."""
MOST = 4
"""Units of a set."""
TRIED = 6
"""Units that are tried out one by one, of those with the largest attributions."""
PLACES: tuple[Place, ...] = ("last", "all")
ONE = ("single_double_quote",)
"""The task of a quick look."""
OPEN = "its other answer is anything else, so that there is no answer of the partner to flip to"

SAME, WRONG = "same_value_preserved", "wrong_position_preserved"
SOLVED, HELD_OUT = "solved", "held_out"


class Handle(NamedTuple):
    """Units that were chosen to hold a task's variable, and where."""

    units: tuple[Unit, ...]
    place: Place


class Rates(NamedTuple):
    """Of each pair, the share of its two prompts …"""

    flipped: Float[np.ndarray, " pair"]
    """… that are answered right, and take the partner's answer with its units"""
    solved: Float[np.ndarray, " pair"]
    """… that are answered right"""
    same: Float[np.ndarray, " pair"]
    """… that are answered right, and still are with units of a prompt of the same value"""
    wrong: Float[np.ndarray, " pair"]
    """… that are answered right, and still are with the partner's units one token too early"""


class Drawn(NamedTuple):
    """Pairs by task, and why some tasks have none."""

    batches: Mapping[str, TaskBatch]
    missing: Mapping[str, str]


def interchange_accuracy(bench: Workbench) -> list[Score]:
    """Interchange accuracy on all tasks of two answers, with its controls."""
    return _scores(bench, "interchange_accuracy", drawn(bench, TASKS))


def interchange_accuracy_quick(bench: Workbench) -> list[Score]:
    """Interchange accuracy on one task."""
    return _scores(bench, "interchange_accuracy_quick", drawn(bench, ONE, pairs=QUICK_PAIRS))


def _scores(bench: Workbench, metric: str, asked: Drawn) -> list[Score]:
    batches = asked.batches.values()
    read = sum(batch.tokens_a.numel() + batch.tokens_b.numel() for batch in batches)
    return by_part(
        bench,
        metric,
        lambda system: measure(system, asked),
        better=lambda part: None if part and SOLVED in part else "higher",
        flags=(*_told(asked), *said_of_all(bench.reader)),
        tokens=read,
    )


def drawn(bench: Workbench, names: Iterable[str], *, pairs: int = PAIRS) -> Drawn:
    """Pairs of the family that goes with the split, of tasks whose partner has an answer too.

    A task that this tokenizer and context have no room for is left out; NoValue where all are.
    """
    tokenizer, found, missing = tokenizer_of(bench), {}, {}
    about = {"family": FAMILY[bench.split], "seed": bench.seed, "context": bench.reader.context}
    for name in names:
        if TASKS[name].one_vs_rest:
            missing[name] = OPEN
            continue
        try:
            found[name] = draw(TASKS[name], tokenizer, pairs, **about)
        except UserError as error:
            missing[name] = str(error)
    if not found:
        raise NoValue(next(iter(missing.values()), "no task was asked for"))
    return Drawn(found, missing)


def _told(asked: Drawn) -> tuple[str, ...]:
    """How many tasks there are numbers of, and which are left out: their own lines say why."""
    kept = f"{len(asked.batches)} of {len(TASKS)} tasks"
    return (kept, *((f"without {', '.join(sorted(asked.missing))}",) if asked.missing else ()))


def measure(system: System, asked: Drawn) -> dict[str | None, Interval]:
    """Accuracy over the pairs of the tasks (None), of those held out, of each, and its controls.

    Raises NoValue for a system that has no units.
    """
    if not system.sites():
        raise NoValue("the model has no site with units of its own")
    rates = {name: of_task(system, Prompts.of(pairs)) for name, pairs in asked.batches.items()}
    kept_away = [name for name in rates if name in TASKS and TASKS[name].held_out]
    found = _together(None, [rates[name] for name in rates if name not in kept_away])
    found |= _together(HELD_OUT, [rates[name] for name in kept_away]) if kept_away else {}
    for name, each in rates.items():
        found |= {name: _mean(each.flipped), f"{name}:{SOLVED}": _mean(each.solved)}
    return found | {name: nothing(reason) for name, reason in asked.missing.items()}


def _together(group: str | None, rates: list[Rates]) -> dict[str | None, Interval]:
    """All pairs of some tasks."""
    if not rates:
        return {group: nothing("none of these tasks can be asked")}
    every = Rates(*(np.concatenate(each) for each in zip(*rates, strict=True)))
    named = lambda part: part if group is None else f"{group}:{part}"
    return {
        group: _mean(every.flipped),
        named(SOLVED): _mean(every.solved),
        named(SAME): _preserved(every.same, every.solved),
        named(WRONG): _preserved(every.wrong, every.solved),
    }


def _mean(values: np.ndarray) -> Interval:
    return mean(values, seed=0, what="pairs")


def _preserved(kept: np.ndarray, solved: np.ndarray) -> Interval:
    """Share of the prompts answered right that stay so."""
    return ratio(kept, solved, seed=0, what="pairs") if solved.any() else nothing("none is solved")


def of_task(system: System, prompts: Prompts) -> Rates:
    """Choose a handle on the first half of the pairs and score it on the other."""
    model = system.model
    device = next(model.parameters()).device
    a, b = (each.on(device) for each in prompts.halves())
    return rates_of(model, b, choose(model, a, tuple(system.sites())))


def choose(model: torch.nn.Module, prompts: Prompts, sites: tuple[str, ...]) -> Handle | None:
    """The units and the place that flip most answers; among equals, those that move them furthest.

    Units are tried in the order of what they do alone: the first, the first two, … of each place.
    None where no unit would move an answer.
    """
    clean, best, found = _clean(model, prompts), (-1.0, 0.0), None
    for place in PLACES:
        candidates = strongest(attributions(model, prompts, sites, place), TRIED)
        swapped = Swapper(model, prompts, candidates)
        swap = Swap((), place, prompts.partner)
        alone = {unit: float(swapped(swap.of(units=(unit,))).mean()) for unit in candidates}
        order = sorted(candidates, key=alone.__getitem__)
        for size in range(1, min(MOST, len(order)) + 1):
            after = swapped(swap.of(units=tuple(order[:size])))
            reached = float(_flips(clean, after).mean()), -float(after.mean())
            if reached > best:
                best, found = reached, Handle(tuple(order[:size]), place)
    return found


def rates_of(model: torch.nn.Module, prompts: Prompts, handle: Handle | None) -> Rates:
    """What the handle does on pairs it was not chosen on."""
    clean = _clean(model, prompts)
    right = wins(clean.double().cpu().numpy())
    if handle is None:
        return Rates(_by_pair(0 * right), *[_by_pair(right)] * 3)
    swapped = Swapper(model, prompts, handle.units)
    swap = Swap(handle.units, handle.place, prompts.partner)
    still = lambda one: right * wins(swapped(one).double().cpu().numpy())
    return Rates(
        _by_pair(_flips(clean, swapped(swap))),
        _by_pair(right),
        _by_pair(still(swap.of(source=prompts.same_side))),
        _by_pair(still(swap.of(shift=1))),
    )


@torch.no_grad()
def _clean(model: torch.nn.Module, prompts: Prompts) -> torch.Tensor:
    found = margins(model(prompts.tokens).logits.float(), prompts)
    if not found.isfinite().all():
        raise NoValue("the model predicts NaN on the prompts of a task")
    return found


def _flips(clean: torch.Tensor, after: torch.Tensor) -> np.ndarray:
    """1 where a prompt was answered right and now takes the partner's answer; ties count half.

    A model that always gives one answer would otherwise seem to flip every other prompt.
    """
    return wins(clean.double().cpu().numpy()) * wins(-after.double().cpu().numpy())


def _by_pair(values: np.ndarray) -> np.ndarray:
    n = len(values) // 2
    return (values[:n] + values[n:]) / 2
