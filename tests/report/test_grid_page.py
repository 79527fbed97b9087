"""The page of a grid: planted effects are found, and nothing is ranked that must not be."""

import csv
import json
import re
import runpy
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pellucid.cli import main
from pellucid.report import chromium
from pellucid.report.grid import write_grid
from pellucid.report.grid.arms import BITS, Arm, groups
from pellucid.report.grid.axis import Axis
from pellucid.report.grid.effects import of_axes, to_baseline
from pellucid.report.grid.figures import frontier
from pellucid.report.grid.pictures import SCALE, draw_pngs
from pellucid.report.grid.reading import CellFiles, read_grid
from pellucid.report.grid.tuning import searched
from pellucid.sweep.statistics import holm, holm_of_pairs

_sample = runpy.run_path(str(Path(__file__).with_name("sample_grid.py")))
write_sample_grid, HOSTILE = _sample["write_sample_grid"], _sample["HOSTILE"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return write_sample_grid(tmp_path_factory.mktemp("grids") / "sample")


def found_of(rows, label):
    return next(row for row in rows if row.label == label)


def test_differences_are_paired_by_seed_and_corrected_together(sample):
    first, _ = found = groups(read_grid(sample))
    rows = to_baseline(found, ["bits_per_byte"], declared=True)["A"]
    worse = found_of(rows, "mlp.k=8 · width: as it is")
    better = found_of(rows, "mlp.k=16 · mlp.width=2048")
    assert worse.found.low < 0.06 < worse.found.high and worse.verdict == "worse"
    assert better.found.low < -0.03 < better.found.high and better.verdict == "better"
    # The seeds move all arms by 0.05: without pairing no difference would be seen.
    assert worse.found.high - worse.found.low < 0.03
    null = found_of(rows, "mlp.k=16 · width: as it is")
    assert null.found.low < 0 < null.found.high and null.verdict == "no difference shown"
    assert [row.p_holm for row in rows] == holm([row.found.p for row in rows])
    assert first.reference.label == "dense" and not worse.exploratory


def test_equality_is_said_within_a_declared_margin_alone(sample):
    found = groups(read_grid(sample))
    ask = lambda margin: to_baseline(found, ["bits_per_byte"], True, {"bits_per_byte": margin})["A"]
    null, worse = "mlp.k=16 · width: as it is", "mlp.k=8 · width: as it is"
    rows = ask(0.03)
    assert found_of(rows, null).verdict == "equal within ± 0.03"
    assert found_of(rows, worse).verdict == "worse" and not found_of(rows, worse).within
    # Of difference and of equality is one family.
    alone = to_baseline(found, ["bits_per_byte"], False, {"bits_per_byte": 0.03})["A"]
    together = holm_of_pairs([(row.found.p, row.p_within) for row in alone])
    assert [(row.p_holm, row.p_within) for row in rows] == together
    assert found_of(ask(0.001), null).verdict == "no difference shown"
    small = found_of(ask(0.2), worse)
    assert small.verdict == "worse" and small.differs and small.within


def test_few_seeds_and_undeclared_metrics_are_exploratory(tmp_path):
    grid = write_sample_grid(tmp_path / "g", seeds=(0, 1, 2), odd=False)
    found = groups(read_grid(grid))
    declared = to_baseline(found, ["bits_per_byte"], declared=True)["A"]
    assert all(row.exploratory for row in declared)
    others = to_baseline(found, ["explained_loss"], declared=False)["A"]
    assert all(row.exploratory and row.p_holm is None for row in others)


def test_an_axis_is_averaged_over_the_others_within_a_seed(sample):
    group = groups(read_grid(sample))[0]
    axes = {"k": ["mlp.k=8", "mlp.k=16", "mlp.k=32"], "width": ["", "mlp.width=2048"]}
    rows = {row.label: row.found for row in of_axes(group, axes, ["bits_per_byte"])}
    assert rows["k: mlp.k=16"].value == pytest.approx(-0.06, abs=0.006)
    assert rows["width: mlp.width=2048"].value == pytest.approx(-0.03, abs=0.006)
    assert {found.n for found in rows.values()} == {5}
    ks = [arm for arm in group.arms if not arm.is_baseline]
    by_hand = [
        sum(arm.by_seed("bits_per_byte")[0] for arm in ks if value in arm.label)
        for value in ("as it is", "2048")
    ]
    arm_means = (by_hand[1] - by_hand[0]) / 3
    assert arm_means == pytest.approx(-0.03, abs=0.02)


def test_an_axis_is_called_null_within_a_declared_margin_alone(sample):
    group = groups(read_grid(sample))[0]
    axes = {"k": ["mlp.k=8", "mlp.k=16", "mlp.k=32"], "width": ["", "mlp.width=2048"]}

    def verdicts(margin):
        rows = of_axes(group, axes, ["bits_per_byte", "explained_loss"], margin)
        return {row.label: row for row in rows if row.metric == "bits_per_byte"}, rows

    found, rows = verdicts({"bits_per_byte": 0.045})
    assert found["width: mlp.width=2048"].within and not found["k: mlp.k=16"].within
    assert found["k: mlp.k=16"].verdict == "better" and found["k: mlp.k=16"].margin == 0.045
    # k=16 and k=32 do not differ: of them the axis that begins at one of them is null.
    null = of_axes(group, {"k": ["mlp.k=16", "mlp.k=32"]}, ["bits_per_byte"], {BITS: 0.02})
    assert [row.verdict for row in null] == ["equal within ± 0.02"]
    # Corrected over all three values of the one metric with a margin, and over nothing else.
    alone = [
        of_axes(group, {axis: [values[0], value]}, ["bits_per_byte"], {BITS: 0.045})[0].p_within
        for axis, values in axes.items()
        for value in values[1:]
    ]
    assert [row.p_within for row in found.values()] == pytest.approx(holm(alone))
    assert all(row.p_within is None for row in rows if row.metric == "explained_loss")
    assert all(row.p_within is None for row in verdicts({})[1])


def arm_at(index, bits, metric, *, ranked=True, twin=None, **values):
    """An arm of one cell on a frontier, whose metric is `explained_loss`."""
    cell = CellFiles(name=f"c{index}", values=values, seed=0, state="done")
    cell.metrics = {BITS: bits, "explained_loss": metric}
    cell.twins = {} if twin is None else {"explained_loss": twin}
    cell.better = {BITS: "lower", "explained_loss": "higher"}
    arm = Arm(label=f"arm {index}", values=values, group="A", cells=[cell], index=index)
    arm.rank, arm.barred = (index, []) if ranked else (None, ["untuned"])
    return arm


def drawn_of(arms):
    """The front's points, and by arm its classes, its place, and the place of its twin."""
    root = ElementTree.fromstring(str(frontier(arms, "explained_loss").drawing))
    line = root.find("polyline[@class='front']")
    points = [] if line is None else [tuple(p.split(",")) for p in line.get("points").split()]
    found = {}
    for group in root.findall("g"):
        dot = next(one for one in group if "dot" in one.get("class", ""))
        center = (dot.get("cx"), dot.get("cy"))
        if dot.tag == "rect":
            center = tuple(str(round(float(dot.get(k)) + 7, 1)) for k in "xy")
        twins = [line.attrib for line in group.findall("g[@class='twin']/line")]
        found[int(group.get("data-arm"))] = (group.get("class").split(), center, twins)
    return [tuple(map(float, p)) for p in points], found


def test_the_line_of_a_frontier_holds_ranked_arms_alone():
    arms = [
        arm_at(1, 1.40, 0.30, mlp="a"),
        arm_at(2, 1.50, 0.50, mlp="b"),
        arm_at(3, 1.55, 0.45, mlp="c"),  # beaten by the second on both axes
        arm_at(4, 1.20, 0.90, ranked=False, mlp="d"),  # best of all, and untuned
        arm_at(5, 1.45, 0.40, baseline="sae"),  # post-hoc: a baseline, and ranked
        arm_at(6, 1.30, 0.95, ranked=False, baseline="dense"),
    ]
    line, drawn = drawn_of(arms)
    at = {index: tuple(map(float, center)) for index, (_, center, _) in drawn.items()}
    assert sorted(drawn) == [1, 2, 3, 4, 5, 6]
    assert line == [at[2], at[5], at[1]]
    assert {i for i, (kind, *_) in drawn.items() if "barred" in kind} == {4, 6}
    assert {i for i, (kind, *_) in drawn.items() if "base" in kind} == {5, 6}
    # Where nothing is ranked there is no line; the arms are drawn all the same.
    line, drawn = drawn_of([arm_at(i, 1 + i / 10, i / 10, ranked=False) for i in (1, 2, 3)])
    assert line == [] and sorted(drawn) == [1, 2, 3]


def test_each_arm_has_the_twin_of_its_own():
    arms = [arm_at(1, 1.4, 0.3, twin=0.1), arm_at(2, 1.5, 0.5, twin=0.2), arm_at(3, 1.6, 0.6)]
    _, drawn = drawn_of(arms)
    assert drawn[3][2] == []
    places = []
    for index in (1, 2):
        (x, y), (joined, bar) = map(float, drawn[index][1]), drawn[index][2]
        assert float(joined["x2"]) == x and float(joined["y1"]) == float(joined["y2"]) == y
        assert joined["x1"] == bar["x1"] == bar["x2"] and float(bar["x1"]) < x
        assert float(bar["y1"]) < y < float(bar["y2"])
        places.append(float(bar["x1"]))
    # On the metric's own scale: 0.1 between the twins, 0.2 between the arms.
    assert (places[1] - places[0]) * 2 == pytest.approx(
        float(drawn[2][1][0]) - float(drawn[1][1][0]), abs=0.4
    )


def test_active_units_are_a_cost_that_leads(tmp_path):
    grid = write_sample_grid(tmp_path / "g", odd=False)
    for number, file in enumerate(sorted((grid / "cells").glob("*/scores.json"))):
        held = json.loads(file.read_text())
        one = held["scores"][0] | {"metric": "mean_active_units", "better": None, "controls": {}}
        held["scores"] += [one | {"value": 8.0 * (1 + number // 5), "site": site} for site in "ab"]
        file.write_text(json.dumps(held))
    page = write_grid(grid, tmp_path / "page.html", figures=tmp_path / "f").read_text()
    lead, _, further = page.partition("of metrics that only describe")
    assert "Active units (mean over sites) (fewer is better)" in lead
    assert "Active units" in lead and "Active units" not in further.partition("</details>")[0]
    drawing = (tmp_path / "f" / "frontier-mean_active_units.svg").read_text()
    assert 'class="front"' in drawing and page.count("frontier") and 'class="twin"' not in drawing


def test_ranks_stay_within_data_and_leave_out_the_untuned(sample):
    first, second = groups(read_grid(sample))
    assert [first.letter, second.letter] == ["A", "B"]
    # The other data's arm has far fewer bits: it must not lead the first group.
    assert len(second.arms) == 1 and second.arms[0].rank is None
    ranked = sorted((arm.rank, arm.mean("bits_per_byte").value) for arm in first.arms if arm.rank)
    assert [rank for rank, _ in ranked] == list(range(1, 8))
    assert ranked == sorted(ranked, key=lambda pair: pair[1])
    assert first.arms[-1].barred == ["untuned"] and first.arms[-1].rank is None


@pytest.mark.parametrize(
    ("metric", "change", "said"),
    [
        ("bits_saved_over_5gram", {"value": -0.1}, "does not beat the 5-gram"),
        ("induction", {"value": 0.1}, "induction no better than its random twin's"),
        ("bits_saved_over_5gram", {"value": None}, "not compared with a 5-gram"),
    ],
)
def test_arms_that_have_learned_nothing_are_not_ranked(tmp_path, metric, change, said):
    grid = write_sample_grid(tmp_path / "g", odd=False)
    for file in (grid / "cells").glob("cell0-*/scores.json"):
        held = json.loads(file.read_text())
        for score in held["scores"]:
            score |= change if score["metric"] == metric else {}
        file.write_text(json.dumps(held))
    arms = groups(read_grid(grid))[0].arms
    assert arms[0].barred == [said] and arms[0].rank is None
    assert arms[1].barred == [] and arms[1].rank


def test_an_untuned_grid_ranks_nothing(tmp_path):
    grid = write_sample_grid(tmp_path / "g", tuned=False, odd=False)
    arms = groups(read_grid(grid))[0].arms
    assert {arm.rank for arm in arms} == {None}
    assert all(arm.barred == ["untuned"] for arm in arms)


def test_marks_and_reasons_are_read(sample):
    read = read_grid(sample)
    arm = groups(read)[0].arms[1]
    assert arm.marks == ["7 units revived", "coverage refused"]
    left = {cell.name: (cell.state, cell.reason) for cell in read.cells if cell.state != "done"}
    assert left["later-seed0"] == ("missing", "not begun")
    assert left["gone-seed0"][0] == "failed" and "too large" in left["gone-seed0"][1]


def test_files_for_papers(sample, tmp_path, capsys):
    out = tmp_path / "page.html"
    words = ["--out", out, "--markdown", tmp_path / "t.md", "--csv", tmp_path / "t.csv"]
    assert main(["compare", str(sample), *map(str, words)]) == 0
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    wanted = groups(read_grid(sample))[0].arms[0].by_seed("bits_per_byte")
    arm = "mlp.k=8 · width: as it is"
    read = {
        r["seed"]: r["value"] for r in rows if r["arm"] == arm and r["metric"] == "bits_per_byte"
    }
    assert {int(seed): float(value) for seed, value in read.items()} == wanted
    text = (tmp_path / "t.md").read_text()
    assert "| dense (baseline) |" in text and "<img" not in text


def test_figures_are_pictures_too(sample, tmp_path, browser):
    write_grid(sample, tmp_path / "page.html", figures=tmp_path)
    (tmp_path / "own.svg").write_text("<svg/>")
    # The browser of other tests holds the one driver that a thread may have.
    with ThreadPoolExecutor(1) as alone:
        assert alone.submit(draw_pngs, tmp_path).result() is None
    drawn = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert drawn == sorted(path.stem for path in tmp_path.glob("*.svg") if path.stem != "own")
    for name in drawn:
        file = tmp_path / f"{name}.png"
        *_, width, height = (tmp_path / f"{name}.svg").read_text().split('"', 4)[3].split()
        held = file.read_bytes()
        assert struct.unpack(">II", held[16:24]) == (SCALE * int(width), SCALE * int(height))


def test_figures_without_a_browser_are_said_to_be_svg_alone(sample, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chromium, "missing", lambda: "no browser is here")
    assert main(["compare", str(sample), "--figures", str(tmp_path / "f")]) == 0
    assert "as SVG alone: no browser is here" in capsys.readouterr().out
    assert not list((tmp_path / "f").glob("*.png"))
    drawn = list((tmp_path / "f").glob("*.svg"))
    assert any(file.name.startswith("frontier-explained_loss") for file in drawn)
    for file in drawn:
        assert ElementTree.parse(file).getroot().tag.endswith("svg")
    # The points carry numbers: as a file of its own a figure names them.
    said = " ".join(
        ElementTree.parse(tmp_path / "f" / "frontier-active-A.svg").getroot().itertext()
    )
    assert "mlp.k=32 · mlp.width=2048" in said


def test_a_search_is_told_with_what_is_wrong_with_it(tmp_path):
    grid = write_sample_grid(tmp_path / "g", odd=False)
    told = json.loads((grid / "tuning.json").read_text())
    edge, broken, diverged = told["arms"][:3]
    edge["at_edge"] = True
    broken |= {"defect": "it ran out of memory", "chosen": None}
    diverged["curve"][3]["bits"] = None
    (grid / "tuning.json").write_text(json.dumps(told))
    rows = searched(read_grid(grid))
    assert rows[0].flags == ("best learning rate at the edge of the search",)
    assert rows[1].flags == ("a trial failed: it ran out of memory",) and rows[1].chosen == ""
    assert rows[2].flags == ("1 of 4 diverged",) and rows[2].chosen == "train.lr=0.003"
    assert rows[2].bits == pytest.approx(1.52) and rows[2].runs == 4
    page = write_grid(grid, tmp_path / "page.html").read_text()
    assert "a trial failed: it ran out of memory" in page


def test_parts_of_metrics_stand_for_them_and_what_was_not_measured_is_said(tmp_path):
    grid = write_sample_grid(tmp_path / "g", odd=False)
    for number, file in enumerate((grid / "cells").glob("*/scores.json")):
        held = json.loads(file.read_text())
        rule = held["scores"][2] | {"value": 0.1 * number}
        held["scores"] += [rule | {"metric": f"rule:{part}"} for part in ("r2", "f1", "gain")]
        file.write_text(json.dumps(held))
    head = json.loads((grid / "grid.json").read_text())
    head["endpoints"] = ["rule:gain", "rule:mass"]
    (grid / "grid.json").write_text(json.dumps(head))
    page = write_grid(grid, tmp_path / "page.html", figures=tmp_path).read_text()
    drawn = {path.stem for path in tmp_path.glob("frontier-rule*.svg")}
    assert drawn == {"frontier-rule_r2", "frontier-rule_gain"}
    assert "Not measured." in page and "rule:mass" in page


def test_what_is_no_grid_is_said(tmp_path, sample, capsys):
    assert main(["compare", str(tmp_path)]) == 2
    assert "two runs or more" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), "--csv", "x.csv"]) == 2
    assert "--csv is of a grid" in capsys.readouterr().err
    (tmp_path / "mine.html").write_text("precious")
    assert main(["compare", str(sample), "--out", str(tmp_path / "mine.html")]) == 2
    assert (tmp_path / "mine.html").read_text() == "precious"
    (tmp_path / "grid.json").write_text("[]")
    assert main(["compare", str(tmp_path)]) == 2
    assert "a JSON object is expected" in capsys.readouterr().err


def test_ticks_are_round_and_within():
    assert [said for _, said in Axis.around([1.41, 1.59], 0, 100).ticks()] == [
        "1.4",
        "1.45",
        "1.5",
        "1.55",
        "1.6",
    ]
    decades = Axis.around([1e5, 1e8], 0, 100, log=True)
    assert [said for _, said in decades.ticks()] == ["100k", "1M", "10M", "100M"]
    assert decades.place(1e6) - decades.place(1e5) == pytest.approx(
        decades.place(1e8) - decades.place(1e7), abs=0.2
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The page of two hundred runs."""
    axes = {
        "k": [f"mlp.k={k}" for k in range(1, 8)],
        "rate": [f"train.lr={r}" for r in range(1, 6)],
    }
    axes["rate"].append("")
    folder = tmp_path_factory.mktemp("large")
    grid = write_sample_grid(folder / "g", axes=axes, rows=400, odd=False)
    cells = len(read_grid(grid).cells)
    start = time.monotonic()
    page = write_grid(grid, folder / "page.html")
    print(f"{cells} runs: {time.monotonic() - start:.2f} s, {page.stat().st_size:,} bytes")
    assert cells >= 200
    return page


def test_a_page_of_two_hundred_runs_is_small(large):
    assert large.stat().st_size < 10_000_000


def test_a_page_of_two_hundred_runs_opens(large, visit):
    tab = visit(large)
    took = tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"two hundred runs: {took:,.0f} ms until they are loaded")
    assert tab.locator("h1").inner_text() and tab.locator("table.sortable tbody tr").count() >= 40


def test_the_page_in_a_browser(sample, tmp_path, visit):
    tab = visit(write_grid(sample, tmp_path / "page.html"))
    assert tab.locator("h1").inner_text() == "sample"
    assert HOSTILE in tab.locator("body").inner_text()
    assert tab.locator("img").count() == 0
    assert tab.get_by_text("equal within ± 0.03").count() == 3
    table = tab.locator("table.sortable").first
    shown = lambda: table.locator("tbody tr td:nth-child(4)").evaluate_all(
        "cells => cells.map((c) => Number(c.dataset.value))"
    )
    heading = table.get_by_role("button", name=re.compile("bits per byte"))
    heading.click()
    assert shown() == sorted(shown())
    heading.click()
    assert shown() == sorted(shown(), reverse=True)
    point = tab.locator("svg .point").first
    point.scroll_into_view_if_needed()
    point.locator(".dot").hover(force=True)
    arm = point.get_attribute("data-arm")
    assert set(tab.locator("tr.pointed").evaluate_all("r => r.map((x) => x.dataset.arm)")) == {arm}
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    loaded = tab.evaluate("performance.getEntriesByType('navigation')[0].duration")
    print(f"loaded in {loaded:.0f} ms")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_it_fits_every_window(sample, tmp_path, visit, width, scheme):
    tab = visit(write_grid(sample, tmp_path / "page.html"), width=width, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_cells_stand_in_the_grids_order(sample, tmp_path):
    held = json.loads((sample / "grid.json").read_text())
    turned = list(reversed(held["cells"]))
    copy = tmp_path / "grid"
    copy.mkdir()
    (copy / "cells").symlink_to(sample / "cells")
    (copy / "grid.json").write_text(json.dumps(held | {"order": turned}))
    assert [cell.name for cell in read_grid(copy).cells] == turned
