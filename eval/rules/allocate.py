"""Equal total bits: which unit gets how long a rule, by what each further bit explains."""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

from pellucid.eval.rules.fit import Learned
from pellucid.eval.rules.text import Text


def allocate(
    learned: Sequence[Learned], importance: Mapping[int, float], text: Text, total: float
) -> dict[int, int]:
    """Budget of each unit's rule, by unit, none where it gets no rule, within `total` bits.

    Importance times the share of error explained is gained; the longer rule of greatest gain per
    bit is taken first, until nothing more fits.
    """
    given, spent = {}, 0.0
    waiting = [step for one in learned if (step := _next(one, None, importance, text))]
    heapify(waiting)
    by_unit = {one.unit: one for one in learned}
    while waiting:
        _, unit, budget, bits = heappop(waiting)
        if spent + bits > total:
            continue
        spent += bits
        given[unit] = budget
        if step := _next(by_unit[unit], budget, importance, text):
            heappush(waiting, step)
    return given


def _next(
    one: Learned, held: int | None, importance: Mapping[int, float], text: Text
) -> tuple[float, int, int, float] | None:
    """(-gain per bit, unit, budget, bits) of the best longer rule; None where none explains more."""
    error = 1.0 if held is None else one.errors[held]
    spent = 0.0 if held is None else one.rules[held].bits(text)
    steps = []
    for budget, rule in one.rules.items():
        gain, bits = importance[one.unit] * (error - one.errors[budget]), rule.bits(text) - spent
        if gain > 0 and bits > 0:
            steps.append((-gain / bits, one.unit, budget, bits))
    return min(steps, default=None)
