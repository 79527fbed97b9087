"""Simulated grids with known effects, told as the page of a grid tells them."""

import numpy as np
import pytest

from pellucid.report.grid.arms import BITS, Arm, Group
from pellucid.report.grid.effects import of_axes, to_baseline
from pellucid.report.grid.reading import CellFiles

EXPLAINED = "explained_loss"
AXES = {"k": ["", "mlp.k=8"], "width": ["", "mlp.width=64"]}
NOISE, EFFECT, MARGIN = 0.01, 0.03, 0.1
ERROR = 0.015
"""Of a share of 2,000 grids: three standard errors of 0.05."""


def simulated(rng, seeds, k=0.0, width=0.0):
    """A group as of a grid: arms of both axes and a baseline, which the seeds move all alike."""
    common = rng.normal(0, 0.05, seeds)
    combos = [{"k": a, "width": b} for a in AXES["k"] for b in AXES["width"]]
    arms = []
    for values in [*combos, {"baseline": "dense"}]:
        shift = k * bool(values.get("k")) + width * bool(values.get("width"))
        arms.append(arm_of(values, {BITS: common + shift + rng.normal(0, NOISE, seeds)}))
    return Group("A", "data", arms, arms[-1])


def arm_of(values, metrics):
    """An arm of a cell for each seed, of which the metrics give a number."""
    cells = [
        CellFiles(
            name="",
            values=values,
            seed=seed,
            state="done",
            metrics=dict(zip(metrics, found, strict=True)),
            better={BITS: "lower"},
        )
        for seed, found in enumerate(zip(*metrics.values(), strict=True))
    ]
    label = " ".join(values.values()).strip()
    return Arm(label=label, values=values, group="A", cells=cells)


def told(group, margin=MARGIN):
    """By label, what the page says of each arm and of each value of an axis."""
    margins = {BITS: margin}
    rows = to_baseline([group], [BITS], declared=True, margins=margins)["A"]
    return {row.label: row for row in [*rows, *of_axes(group, AXES, [BITS], margins)]}


def check(seeds, grids, error):
    """Coverage, false claims and null axes, as shares of so many simulated grids."""
    rng = np.random.default_rng(seeds)
    held, null, false = [], [], []
    for _ in range(grids):
        rows = told(simulated(rng, seeds, k=EFFECT))
        found = [rows["mlp.k=8"].found, rows["k: mlp.k=8"].found]
        held.append([one.low <= EFFECT <= one.high for one in found])
        null.append(rows["width: mlp.width=64"])
        rows = told(simulated(rng, seeds))
        false.append(any(row.differs for row in rows.values() if row.declared))
    assert np.mean(held, axis=0) == pytest.approx([0.95, 0.95], abs=error)
    assert np.mean(false) <= 0.05 + error
    called = [row.verdict == f"equal within ± {MARGIN}" for row in null]
    assert np.mean([row.within for row in null]) >= 0.99
    # What is not called equal is a difference that is not corrected, and is marked exploratory.
    assert np.mean(called) == pytest.approx(0.95, abs=error)
    assert all(row.exploratory for row in null)


def claimed_at_the_edge(seeds, grids):
    """Share of grids in which an axis whose effect is the margin is called equal within it."""
    rng = np.random.default_rng(seeds + 1)
    rows = [told(simulated(rng, seeds, width=EFFECT), EFFECT) for _ in range(grids)]
    return np.mean([row["width: mlp.width=64"].within for row in rows])


def at_both_edges(rng, seeds):
    """Arms at two endpoints, half of which differ by nothing and half by the margin, and clearly."""
    shifts = [("none", 0.0), ("margin", MARGIN)] * 4
    named = [({"arm": f"{name} {i}"}, shift) for i, (name, shift) in enumerate(shifts)]
    arms = [
        arm_of(values, {m: shift + rng.normal(0, NOISE / 10, seeds) for m in (BITS, EXPLAINED)})
        for values, shift in [*named, ({"baseline": "dense"}, 0.0)]
    ]
    return Group("A", "data", arms, arms[-1])


def claimed_falsely(seeds, grids):
    """Share of grids with any false claim: a difference where none is, or equality at the margin."""
    rng, margins = np.random.default_rng(seeds + 2), {BITS: MARGIN, EXPLAINED: MARGIN}
    wrong = 0
    for _ in range(grids):
        rows = to_baseline([at_both_edges(rng, seeds)], [BITS, EXPLAINED], True, margins)["A"]
        wrong += any(row.differs if "none" in row.label else row.within for row in rows)
    return wrong / grids


def test_the_page_holds_what_it_says_of_simulated_grids():
    check(5, 150, error=0.055)
    assert claimed_at_the_edge(5, 100) <= 0.05 + 0.055
    assert claimed_falsely(5, 100) <= 0.05 + 0.055


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_of_two_thousand_grids_as_many_are_right_as_stated(seeds):
    check(seeds, 2000, ERROR)
    assert claimed_at_the_edge(seeds, 2000) <= 0.05 + ERROR
    assert claimed_falsely(seeds, 2000) <= 0.05 + ERROR


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_without_a_margin_a_null_axis_is_not_called_null(seeds):
    group = simulated(np.random.default_rng(1), seeds)
    rows = of_axes(group, AXES, [BITS])
    assert not [row.verdict for row in rows if row.verdict.startswith("equal")]
    assert rows[1].verdict == "no difference shown"
