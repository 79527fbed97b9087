"""Results that are committed are those of the grids that ship."""

import json
from pathlib import Path

import pytest

from pellucid.experiments.matching import CLOSE, CLOSE_IN_TIME
from pellucid.sweep import load_grid, matched
from pellucid.sweep.folder import describe

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
GRIDS = sorted(path.parent.name for path in RESULTS.glob("*/grid.json"))


def planned(cells):
    """What a plan says of its cells; the identity of equal words may be another to a newer version."""
    return {name: (one["words"], one["values"], one["seed"]) for name, one in cells.items()}


@pytest.mark.parametrize("name", GRIDS)
def test_results_are_of_every_cell_of_their_grid_and_of_no_other(name):
    grid, held = load_grid(name), json.loads((RESULTS / name / "grid.json").read_text())
    found = matched.remembered(RESULTS / name, grid)
    asked = {n for n, words in grid.baselines.items() if "match=" in words}
    assert asked == set(found)
    plan = describe(grid, grid.cells(matched=found))
    assert planned(held["cells"]) == planned(plan["cells"])
    assert (held["endpoints"], held["seeds"]) == (plan["endpoints"], plan["seeds"])


@pytest.mark.parametrize("name", [n for n in GRIDS if (RESULTS / n / matched.FILE).exists()])
def test_what_was_matched_for_results_is_close(name):
    for found in matched.remembered(RESULTS / name, load_grid(name)).values():
        assert found.facts is not None
        if found.facts["by"] == "loss":  # a rung of a ladder, which is close to nothing
            continue
        close = CLOSE_IN_TIME if found.facts["by"] == "step_time" else CLOSE
        assert abs(found.facts["ratio"] - 1) <= close
        assert found.words == tuple(found.facts["words"])


def test_some_results_are_of_grids_and_some_were_matched():
    assert {"mlp_fillings", "topk_k_width"} <= set(GRIDS)
    assert (RESULTS / "topk_k_width" / matched.FILE).exists()
