"""`pellucid bench pack` counts the tokens of all runs, in each of the three ways."""

import pytest
from support.training import SMALL

from pellucid.errors import UserError
from pellucid.experiments import bench_pack, run_config

WORDS = [*SMALL, "dropout=0.0"]


def test_rates_are_tokens_of_all_runs_over_the_time_of_all(monkeypatch):
    seconds = iter([0.5, 0.25])
    taken = []

    def timed(step, steps):
        taken.extend(step() for _ in range(steps))
        return next(seconds)

    monkeypatch.setattr(bench_pack, "_timed", timed)
    monkeypatch.setattr(bench_pack, "_processes", lambda configs, steps: 2.0 * len(configs))
    found = bench_pack.measure(run_config(WORDS), cells=3, steps=2)
    tokens = 3 * 2 * 8 * 16
    assert found["tokens_per_s"] == {
        "alone": tokens / 1.5,  # three runs of half a second, one after the other
        "processes": tokens / 6.0,
        "stacked": tokens / 0.25,
    }
    assert taken == [None] * 4, "a step was not finite"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cells=0", *WORDS], "cells='0' is not accepted; a number from 1 is"),
        (SMALL, "cannot be one batched model: dropout draws noise"),
    ],
)
def test_what_cannot_be_measured_is_said(words, said):
    with pytest.raises(UserError, match=said):
        bench_pack.main(words)
