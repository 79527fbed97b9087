"""Who has a rank, and what is marked: a grid's folder is doctored, and the command's files are read."""

import csv
import json
import re
import runpy
from pathlib import Path

import pytest

from pellucid.cli import main

_sample = runpy.run_path(str(Path(__file__).with_name("sample_grid.py")))
write_sample_grid = _sample["write_sample_grid"]
LEADER = "mlp.k=16 · mlp.width=2048"
"""The arm of fewest bits per byte, cell3; cell5 is as good."""


@pytest.fixture
def compared(tmp_path):
    """compared(change) doctors the leader's cells, and reads what `pellucid compare` then writes."""
    grid = write_sample_grid(tmp_path / "g", odd=False)

    def compare(change, seeds=(0, 1, 2, 3, 4)):
        for seed in seeds:
            change(grid / "cells" / f"cell3-seed{seed}")
        names = [tmp_path / name for name in ("p.html", "t.md", "t.csv")]
        words = [
            w for pair in zip(("--out", "--markdown", "--csv"), names, strict=True) for w in pair
        ]
        assert main(["compare", str(grid), *map(str, words)]) == 0
        page, table, rows = (path.read_text() for path in names)
        return page, table, list(csv.DictReader(rows.splitlines()))

    return compare


def rewrite(file: str, change):
    """Of a cell's folder: change the object in one of its JSON files."""

    def doctor(cell: Path) -> None:
        held = json.loads((cell / file).read_text())
        change(held)
        (cell / file).write_text(json.dumps(held))

    return doctor


def score(metric: str, **facts):
    """Of a cell's folder: change one of its scores; with no facts, drop it."""

    def change(held: dict) -> None:
        for one in [one for one in held["scores"] if one["metric"] == metric]:
            one.update(facts) if facts else held["scores"].remove(one)

    return rewrite("scores.json", change)


def append(*rows: dict):
    """Of a cell's folder: rows at the end of its metrics."""

    def doctor(cell: Path) -> None:
        with (cell / "metrics.jsonl").open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    return doctor


def ranks(rows: list[dict]) -> dict[str, str]:
    return {row["arm"]: row["rank"] for row in rows}


def reason(rows: list[dict], arm: str = LEADER) -> str:
    return next(row["not_ranked"] for row in rows if row["arm"] == arm)


def test_the_arm_that_leads_is_ranked_first_where_nothing_is_wrong_with_it(compared):
    *_, rows = compared(lambda cell: None)
    assert int(ranks(rows)[LEADER]) <= 2 and reason(rows) == ""


@pytest.mark.parametrize(
    ("doctor", "said"),
    [
        (score("bits_saved_over_5gram", value=-0.1), "does not beat the 5-gram"),
        (score("bits_saved_over_5gram", value=0.0), "does not beat the 5-gram"),
        (score("bits_saved_over_5gram"), "not compared with a 5-gram"),
        (score("induction", value=0.0), "induction no better than its random twin's"),
        (score("induction", value=0.1), "induction no better than its random twin's"),
        (score("induction"), "induction not compared with its random twin's"),
        (score("induction", value=None), "induction not compared with its random twin's"),
        (
            score("induction", controls={"random_twin": "out of memory"}),
            "induction not compared with its random twin's",
        ),
        (score("induction", controls={}), "induction not compared with its random twin's"),
    ],
)
def test_an_arm_that_shows_no_skill_has_no_rank(compared, doctor, said):
    page, table, rows = compared(doctor)
    assert ranks(rows)[LEADER] == "" and reason(rows) == said
    assert sorted(filter(None, ranks(rows).values())) == list("123456")
    assert re.search(rf"^\| – \| {re.escape(LEADER)} \|", table, re.MULTILINE)
    # In the table of arms, and at both endpoints.
    assert page.count(f'<span class="flag strong">{said.replace(chr(39), "&#39;")}</span>') == 3


def test_one_seed_that_is_no_better_than_noise_is_no_reason_by_itself(compared):
    *_, rows = compared(score("induction", value=0.1), seeds=(2,))
    assert ranks(rows)[LEADER] != ""


def test_one_seed_that_was_not_compared_is_a_reason(compared):
    *_, rows = compared(score("induction", value=None), seeds=(2,))
    assert reason(rows) == "induction not compared with its random twin's"


def test_an_arm_that_lacks_a_seed_has_no_rank(compared):
    """Seeds move all arms alike, and one that diverged would leave the others to speak."""

    def fail(cell: Path) -> None:
        (cell / "scores.json").unlink()

    page, _, rows = compared(fail, seeds=(4,))
    assert reason(rows) == "lacks seed 4" and ranks(rows)[LEADER] == ""
    assert "not scored" in page


@pytest.mark.parametrize(
    ("doctor", "mark"),
    [
        (append({"kind": "event", "event": "revive", "step": 3, "units": 11}), "11 units revived"),
        (append({"kind": "event", "event": "skip", "step": 3}), "1 steps skipped"),
        (append({"kind": "train", "step": 98, "skipped": 2}), "2 steps skipped"),
        (append({"kind": "train", "step": 98, "overflow": 3}), "3 overflows"),
    ],
)
def test_what_happened_in_training_is_marked_everywhere(compared, doctor, mark):
    page, table, rows = compared(doctor, seeds=(1, 3))
    said = f"seed 1, 3: {mark}"
    assert said in page
    line = next(line for line in table.splitlines() if f"| {LEADER} |" in line)
    assert said in line
    marked = {row["seed"] for row in rows if row["arm"] == LEADER and row["marks"] == mark}
    assert marked == {"1", "3"}


def test_data_of_another_fingerprint_is_ranked_by_itself(compared):
    def other(held: dict) -> None:
        held["data_fingerprint"] = "text-1"

    manifest, scores = rewrite("manifest.json", other), rewrite("scores.json", other)
    page, table, rows = compared(lambda cell: (manifest(cell), scores(cell)))
    groups = {row["arm"]: row["group"] for row in rows}
    assert groups[LEADER] != groups["dense"] and ranks(rows)[LEADER] == "1"
    assert sorted(rank for arm, rank in ranks(rows).items() if groups[arm] == groups["dense"])[
        -6:
    ] == list("123456")
    assert "Not ranked together." in page and table.count("## Group") == 2
    assert LEADER not in table.partition("## Group B")[0]


@pytest.mark.parametrize("file", ["manifest.json", "scores.json"])
def test_scores_of_other_data_than_the_runs_are_ranked_with_nothing(compared, file):
    doctor = rewrite(file, lambda held: held.update(data_fingerprint="text-1"))
    *_, rows = compared(doctor)
    groups = {row["arm"]: row["group"] for row in rows}
    assert groups[LEADER] != groups["dense"]


def test_scores_of_a_checkpoint_on_the_way_are_no_result(compared):
    page, _, rows = compared(rewrite("scores.json", lambda held: held.update(checkpoint=40)))
    assert LEADER not in ranks(rows)
    assert page.count("scored at step 40, not at its end") == 5


def test_an_arm_at_another_rate_than_was_chosen_is_not_tuned(compared):
    doctor = rewrite("config.json", lambda held: held["train"].update(lr=0.1))
    *_, rows = compared(doctor)
    assert reason(rows) == "not trained at the rate that was chosen"


def fitted(seconds: float, dense: float | None):
    """Of a cell's folder: a fit of so many seconds, to a dense run that took others to train."""

    def change(held: dict) -> None:
        held["finished"]["seconds"] = seconds
        held["posthoc"] = {"seconds": seconds, "seconds_of_the_run": dense}

    return rewrite("manifest.json", change)


def test_coders_take_the_time_of_the_dense_run_that_they_need_as_well(compared):
    page, table, rows = compared(lambda cell: fitted(7.0 + int(cell.name[-1]), 300.0)(cell))
    found = [float(r["value"]) for r in rows if (r["arm"], r["metric"]) == (LEADER, "seconds")]
    assert found == [307.0, 308.0, 309.0, 310.0, 311.0]
    said = "300 s of the dense run and 9 s of fitting"
    assert page.count(said) == 1 and table.count(said) == 1


def test_coders_whose_dense_run_took_nobody_knows_how_long_are_not_nearly_free(compared):
    page, _, rows = compared(fitted(7.0, None))
    times = {row["arm"] for row in rows if row["metric"] == "seconds"}
    assert LEADER not in times and "dense" in times and "of fitting" not in page
