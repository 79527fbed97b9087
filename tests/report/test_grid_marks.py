"""What a reader must know of an arm stands wherever its numbers do."""

import csv
import json
import re
import runpy
from pathlib import Path

import pytest

from pellucid.report.grid import write_grid
from pellucid.report.grid.arms import groups
from pellucid.report.grid.reading import read_grid

_sample = runpy.run_path(str(Path(__file__).with_name("sample_grid.py")))
BETTER = "mlp.k=16 · mlp.width=2048"
ALONE = "no seconds of its own"


@pytest.fixture
def grid(tmp_path) -> Path:
    """Arms 1 to 6 of two axes, the baseline 7, and 8, which alone is not tuned."""
    return _sample["write_sample_grid"](tmp_path / "grid", odd=False)


@pytest.fixture
def page_of(grid, tmp_path):
    """Its page, its Markdown and its CSV file."""

    def write() -> tuple[str, str, list[dict[str, str]]]:
        table, values = tmp_path / "t.md", tmp_path / "t.csv"
        about = {"markdown": table, "csv": values, "figures": tmp_path}
        page = write_grid(grid, tmp_path / "page.html", **about).read_text()
        return page, table.read_text(), list(csv.DictReader(values.read_text().splitlines()))

    return write


def rows_of(page: str, heading: str) -> list[tuple[int, str]]:
    """The rows of a section of the page: an arm's number, and what is told of it."""
    section = page.partition(f"<h2>{heading}</h2>")[2].partition("</section>")[0]
    found = re.findall(r'<tr data-arm="(\d+)">(.*?)</tr>', section, flags=re.DOTALL)
    return [(int(number), row) for number, row in found]


def change(file: Path, **what: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | what))


def test_an_arm_that_is_not_ranked_says_so_where_it_is_called_better(grid, page_of):
    told = json.loads((grid / "tuning.json").read_text())
    tuned = [arm for arm in told["arms"] if "mlp.k=16" not in arm["values"].values()]
    change(grid / "tuning.json", arms=tuned)
    page, table, _ = page_of()
    rows = rows_of(page, "Declared endpoints")
    assert len(rows) == 2 * 7
    flag = '<span class="flag strong">untuned</span>'
    assert {arm for arm, row in rows if flag in row} == {3, 4, 8}
    better = [row for arm, row in rows if ">better</span>" in row]
    assert {"flag good" in row for row in better if "untuned" in row} == {False}
    assert any(">better</span>" in row for arm, row in rows if arm == 4)
    # Of the many metrics that nobody declared, a word; the reason is shown where it is pointed at.
    others = rows_of(page, "Other metrics")
    assert {arm for arm, row in others if 'title="untuned">not ranked<' in row} == {3, 4, 8}
    head, _, *lines = (line for line in table.splitlines() if line.count(" | ") == 7)
    assert head.endswith("| found | not ranked because |") and len(lines) == 2 * 7
    assert {line.split(" | ")[1] for line in lines if line.endswith(" | untuned |")} == {
        "mlp.k=16 · width: as it is",
        BETTER,
        next(line.split(" | ")[1] for line in lines if "ladder" in line),
    }
    assert any(f"| {BETTER} |" in line and "| better | untuned |" in line for line in lines)
    assert "is not ranked itself" not in page + table


def test_a_baseline_that_is_not_ranked_says_so_beside_what_is_compared_with_it(grid, page_of):
    (grid / "tuning.json").unlink()
    page, table, _ = page_of()
    assert "<b>dense is not ranked itself:</b> untuned.</p>" in page
    assert "\ndense is not ranked itself: untuned.\n" in table
    (arms, *_) = table.splitlines()
    assert arms.endswith("| not ranked because | marks |")


def test_where_all_are_ranked_no_column_says_why_not(grid, page_of):
    told = json.loads((grid / "tuning.json").read_text())
    cells = json.loads((grid / "grid.json").read_text())["cells"]
    last = cells["cell7-seed0"]["values"]
    change(grid / "tuning.json", arms=[*told["arms"], told["arms"][0] | {"values": last}])
    page, table, _ = page_of()
    assert "not ranked because" not in table and "untuned" not in page


def stack(grid: Path, cells: str, runs: int) -> None:
    """Let cells have shared their steps."""
    for cell in (grid / "cells").glob(cells):
        change(cell / "manifest.json", stacked={"runs": runs})


def test_stacked_cells_are_marked_and_have_no_seconds(grid, page_of, tmp_path):
    stack(grid, "cell0-*", 4)
    stack(grid, "cell1-seed3", 2)
    stack(grid, "cell2-*", 1)
    first, second, third, *others = groups(read_grid(grid))[0].arms
    assert f"trained with 3 others as one model: {ALONE}" in first.marks
    assert first.by_seed("seconds") == {} and len(first.by_seed("active")) == 5
    assert f"seed 3: trained with 1 other as one model: {ALONE}" in second.marks
    assert sorted(second.by_seed("seconds")) == [0, 1, 2, 4]
    for arm in (third, *others):
        assert len(arm.by_seed("seconds")) == 5 and not any("one model" in m for m in arm.marks)
    page, table, rows = page_of()
    label = "mlp.k=8 · width: as it is"
    assert label in (tmp_path / "frontier-active.svg").read_text()
    assert label not in (tmp_path / "frontier-seconds.svg").read_text()
    assert any("with 3 others" in row for arm, row in rows_of(page, "Arms") if arm == 1)
    assert "trained with 3 others as one model" in table
    timed = {row["arm"] for row in rows if row["metric"] == "seconds"}
    assert label not in timed and len(timed) == 7


def test_coders_of_a_stacked_run_have_no_seconds_either(grid):
    for cell in (grid / "cells").glob("cell7-*"):
        dense = cell.name.replace("cell7", "cell6")
        origin = {"posthoc": {"run": dense, "weights_sha256": "0"}}
        fitted = {"seconds": 7.0, "seconds_of_the_run": 300.0}
        done = json.loads((cell / "manifest.json").read_text())["finished"] | {"seconds": 7.0}
        change(cell / "manifest.json", origin=origin, posthoc=fitted, finished=done)
    assert set(groups(read_grid(grid))[0].arms[7].by_seed("seconds").values()) == {307.0}
    stack(grid, "cell6-*", 4)
    coders = groups(read_grid(grid))[0].arms[7]
    assert coders.by_seed("seconds") == {} and "of fitting" not in " ".join(coders.marks)
    assert f"fitted to a run trained with 3 others as one model: {ALONE}" in coders.marks
