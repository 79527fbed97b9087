"""`pellucid bench grids`: what it takes to be the runner's own time, and what it refuses."""

import pytest
from support.training import SMALL

from pellucid.errors import UserError
from pellucid.experiments import bench_grids, own_words


def test_the_runner_has_what_cells_do_not_count(monkeypatch):
    # Two cells: 9 s, of which they count 4; ten cells: 53 s, of which they count 32.
    monkeypatch.setattr(
        bench_grids, "_run", lambda _, cells: {2: (9.0, 4.0), 10: (53.0, 32.0)}[cells]
    )
    assert bench_grids.overhead("tiny", 10) == (44 - 28) / 8


@pytest.mark.slow
def test_both_figures_are_printed(capsys, monkeypatch):
    monkeypatch.setattr(bench_grids, "PLANNED", 20)
    bench_grids.main(["cells=3", *SMALL])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("20 planned cells open in ") and second.endswith(
        "(3 cells, one worker)"
    )


def test_a_benchmark_takes_its_own_words_and_leaves_the_others():
    words = ["tiny", "cells=2", "mlp.k=4", "json=a=b", "cells=3", "json"]
    own = {"cells": "3", "json": "a=b"}
    assert own_words(words, {"cells", "json", "only"}) == (own, ["tiny", "mlp.k=4", "json"])


@pytest.mark.parametrize("cells", ["2", "x", ""])
def test_too_few_cells_are_refused(cells):
    with pytest.raises(UserError, match=f"cells={cells} is not accepted; more than 2 are"):
        bench_grids.main([f"cells={cells}"])
