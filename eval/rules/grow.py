"""Growing one rule within a budget of bits: the step that explains most for each bit, again and again.

A step asks a new question at a leaf, adds a token to a set, gives one of a set a leaf of its own,
or turns a leaf into a ramp. It is proposed by one part of half A and made only if the other part,
which had no say in it, agrees.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from pellucid.eval.rules.drawn import Drawn
from pellucid.eval.rules.literals import Among, offset_bits, symbol_bits
from pellucid.eval.rules.mine import RIDGE, gains, largest
from pellucid.eval.rules.rule import LONG, SHORT, VALUE_BITS, Rule, Scale
from pellucid.eval.rules.rule import length as tree_length
from pellucid.eval.rules.spot import WORTH, Spot

TRIES = 6
"""Proposals that the checking part is asked about at each step."""
LEAST_GAIN = 0.001
"""Share of the squared error that a step must explain on the checking part."""

SURE = 2.5
"""Its gain on the checking part, over the gain's standard error, that a step must reach."""


class Step(NamedTuple):
    """A proposed change: what it explains where it was found, what it costs, how it is made."""

    gain: float
    bits: float
    spot: Spot
    make: Callable[[], None]


def grow(root: Spot, scale: Scale, budget: float) -> Rule:
    """The rule that a tree becomes within a budget; `root` keeps what was found for later calls."""
    drawn = root.drawn
    total = float(drawn.weight[root.checking] @ drawn.values[root.checking] ** 2)
    rule = Rule(root.node(scale), scale)
    while rule.bits(drawn.text) < budget:
        better = _advance(root, scale, budget, LEAST_GAIN * total)
        if better is None:
            break
        rule = better
    return rule


def _advance(root: Spot, scale: Scale, budget: float, least: float) -> Rule | None:
    """Make the best step that fits and that the checking part agrees to; None if there is none."""
    text = root.drawn.text
    spent = tree_length(root.node(scale), scale, text)
    steps = [step for step in _steps(root) if step.gain > 0]
    # A leaf may turn out to need no value after the step: only the rule itself can tell.
    steps = [step for step in steps if spent + step.bits <= budget + VALUE_BITS]
    steps.sort(key=lambda step: -step.gain / step.bits)
    tried = []
    for step in steps[:TRIES]:
        kept, before = _state(step.spot), step.spot.errors()
        step.make()
        fell = before - step.spot.errors()
        gain, doubt = fell.sum(), np.sqrt(fell @ fell)
        fits = tree_length(root.node(scale), scale, text) <= budget
        if fits and gain > max(least, SURE * doubt):
            tried.append((min(gain, step.gain) / step.bits, _state(step.spot), step.spot))
        _put(step.spot, kept)
    if not tried:
        return None
    _, state, spot = max(tried, key=lambda one: one[0])
    _put(spot, state)
    return Rule(root.node(scale), scale)


def _state(spot: Spot) -> tuple:
    return spot.literal, spot.slope, spot.yes, spot.no


def _put(spot: Spot, state: tuple) -> None:
    spot.literal, spot.slope, spot.yes, spot.no = state


def _steps(root: Spot) -> Iterator[Step]:
    drawn = root.drawn
    total = float(drawn.weight @ drawn.values**2)
    for leaf in root.leaves():
        if leaf.slope is None and leaf.held() > WORTH * total:
            yield from _at_leaf(leaf)
    for split in root.splits():
        if isinstance(split.literal, Among) and _plain(split):
            yield from _wider(split, drawn)
            yield from _singled_out(split, drawn)


def _at_leaf(leaf: Spot) -> Iterator[Step]:
    text = leaf.drawn.text
    questions, slopes = leaf.found
    for gain, literal in questions:
        kind = SHORT if isinstance(literal, Among) else LONG
        bits = kind + literal.bits(text) + SHORT + VALUE_BITS
        yield Step(gain, bits, leaf, lambda literal=literal: leaf.split(literal))
    for slope in slopes:
        bits = LONG + 7 + symbol_bits(text) + VALUE_BITS
        yield Step(slope.gain, bits, leaf, lambda slope=slope: setattr(leaf, "slope", slope))


def _plain(split: Spot) -> bool:
    sides = (split.yes, split.no)
    return all(side.is_leaf and side.slope is None for side in sides)


def _wider(split: Spot, drawn: Drawn) -> Iterator[Step]:
    """The best token to move from a set's outside to its inside."""
    weight, rows = drawn.weight, split.no.growing
    moved = weight * drawn.values
    inside, outside = split.yes.growing, rows
    w1, s1 = weight[inside].sum(), moved[inside].sum()
    w0, s0 = weight[outside].sum(), moved[outside].sum()
    symbols, width = drawn.symbols[split.literal.offset, rows], drawn.text.n_symbols
    w, s = np.bincount(symbols, weight[rows], width), np.bincount(symbols, moved[rows], width)
    after = (s1 + s) ** 2 / (w1 + w + RIDGE) + (s0 - s) ** 2 / (w0 - w + RIDGE)
    gain = after - s1**2 / (w1 + RIDGE) - s0**2 / (w0 + RIDGE)
    for token in largest(gain, 2):
        bits = 1 + symbol_bits(drawn.text)
        yield Step(float(gain[token]), bits, split, lambda t=token: split.widen(t))


def _singled_out(split: Spot, drawn: Drawn) -> Iterator[Step]:
    """Each token of a set, with a value of its own."""
    if len(split.literal.tokens) < 2:
        return
    rows, offset = split.yes.growing, split.literal.offset
    weight, symbols = drawn.weight[rows], drawn.symbols[offset, rows]
    moved = weight * drawn.values[rows]
    bits = SHORT + offset_bits(offset) + SHORT + VALUE_BITS
    for token in split.literal.tokens:
        its = symbols == token
        gain = gains(weight[its].sum(), moved[its].sum(), weight.sum(), moved.sum())
        yield Step(float(gain), bits, split, lambda t=token: split.single_out(t))
