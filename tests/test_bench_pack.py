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


def test_processes_at_once_come_to_their_end_and_all_rates_to_a_table(capsys):
    bench_pack.main(["cells=2", "steps=1", *WORDS])
    head, columns, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("2 runs of ") and "1 steps, on cpu" in head
    assert [row[:22].strip() for row in rows] == list(bench_pack.WAYS.values())
    rates = [float(row[22:39].replace(",", "")) for row in rows]
    assert min(rates) > 0 and rows[0].endswith("1.00")
    assert {len(row) for row in rows} == {len(columns)}


def test_a_process_that_dies_is_said_at_once(tmp_path):
    """The others would wait for it, and the command with them."""
    cannot = run_config(["data=files", f"data.path={tmp_path / 'nothing'}"])
    with pytest.raises(UserError, match="one of 2 processes at once ended with exit code 1"):
        bench_pack._processes([cannot, cannot], steps=1)
