"""Tuning finds planted optima with the same budget for all, and reported seeds choose nothing."""

import json
from dataclasses import replace
from math import log2

import pytest
from support.grids import Pretended
from support.training import SMALL

from pellucid.cli import main
from pellucid.errors import EXIT_RESUME, UserError
from pellucid.eval.refusals import refusal
from pellucid.run import RunFolder
from pellucid.sweep import Grid, Tuning
from pellucid.sweep.folder import Failure, GridFolder
from pellucid.sweep.trials import check_trials, searches, trials, tuned
from pellucid.sweep.tuning import SELECTED_BY, Point, at_edge, chosen, wanted
from pellucid.training.seen import seen

RATES = (0.001, 0.002, 0.004, 0.008)
TUNING = Tuning(rates=RATES, seeds=(100, 101))


def search(bits, tuning=TUNING, dial=()):
    """Follow a planted curve to the end: what was tried, round by round."""
    curve, rounds = {}, []
    while points := wanted(curve, tuning, dial):
        rounds.append(points)
        curve |= {point: bits(point) for point in points}
    return curve, rounds


def bowl(best):
    return lambda point: 1.5 + abs(log2(point.rate / best)) + (0.1 if point.dial else 0)


def test_an_optimum_inside_takes_one_round():
    curve, rounds = search(bowl(0.004))
    assert rounds == [[Point(rate) for rate in RATES]]
    assert chosen(curve) == Point(0.004) and not at_edge(curve)


@pytest.mark.parametrize(
    ("best", "rates"),
    [(0.016, (0.016, 0.032)), (0.001, (0.0005,)), (0.00025, (0.0005, 0.00025, 0.000125))],
)
def test_a_search_goes_on_beyond_the_edge_where_the_best_lies(best, rates):
    curve, rounds = search(bowl(best))
    assert [points[0].rate for points in rounds[1:]] == pytest.approx(list(rates))
    assert chosen(curve).rate == pytest.approx(best) and not at_edge(curve)


def test_an_endless_slope_is_left_and_said():
    curve, rounds = search(lambda point: -point.rate)
    assert len(rounds) == 1 + TUNING.extensions
    assert at_edge(curve)


def test_what_diverged_is_worst_and_closes_an_edge():
    curve, rounds = search(lambda point: None if point.rate > 0.005 else -point.rate)
    assert len(rounds) == 1 and chosen(curve) == Point(0.004) and not at_edge(curve)
    curve, rounds = search(lambda point: None)
    assert chosen(curve) is None and at_edge(curve)
    assert [points[0].rate for points in rounds[1:]] == [0.0005, 0.00025, 0.000125, 0.0000625]
    curve, _ = search(lambda point: None if point.rate > 0.0006 else 1 / point.rate)
    assert chosen(curve) == Point(0.0005)


def test_of_equal_rates_the_lower_is_taken():
    curve, _ = search(lambda point: 1.0 if point.rate in (0.002, 0.004) else 2.0)
    assert chosen(curve) == Point(0.002)


def test_a_dial_is_tried_at_the_best_rate_alone():
    dial = ("mlp.auxk=1", "mlp.auxk=2")
    better = lambda point: bowl(0.016)(point) - (0.5 if point.dial == dial[1] else 0)
    curve, rounds = search(better, dial=dial)
    assert rounds[-1] == [Point(0.016, dial[0]), Point(0.016, dial[1])]
    assert chosen(curve) == Point(0.016, dial[1]) and not at_edge(curve)
    curve, _ = search(bowl(0.004), dial=dial)
    assert chosen(curve) == Point(0.004)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rates": (0.001, 0.002, 0.004)}, "4 or more"),
        ({"rates": (0.001, 0.003, 0.009, 0.027)}, "each twice the one before"),
        ({"seeds": (1, 1)}, "different ones are accepted"),
        ({"name": "train.beta1"}, "train.lr or train.muon_lr"),
        ({"dials": {"mlp.k=2": "mlp.k=4"}}, "a list of words"),
    ],
)
def test_a_search_that_contradicts_itself_is_refused(changes, said):
    with pytest.raises(UserError, match=said):
        Tuning(**changes)


def grid(**changes):
    plain = {"name": "t", "base": " ".join(SMALL), "axes": {"k": ["mlp.k=2", "mlp.k=8"]}}
    return Grid(
        **plain | {"seeds": (0, 1), "tune": TUNING, "baselines": {"d": "mlp.k=16"}} | changes
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": (0, 101)}, "share 101: a seed that chose the learning rate cannot be reported"),
        (
            {"axes": {"r": ["train.lr=0.1", "train.lr=0.2"]}},
            "sets train.lr=0.1, which tune chooses",
        ),
        (
            {
                "axes": {"k": ["mlp.k=2", "mlp.k=8"], "w": ["mlp.width=64"]},
                "tune": Tuning(dials={"mlp.k=2": ["mlp.k=4"], "mlp.width=64": ["mlp.width=32"]}),
            },
            "meet in one arm",
        ),
    ],
)
def test_a_grid_that_contradicts_its_search_is_refused(changes, said):
    with pytest.raises(UserError, match=said):
        grid(**changes).cells()


def test_a_dial_is_one_field_in_whichever_layers():
    dials = {"mlp=relu_l1": ["mlp.l1=0.01", "mlp@0.l1=0.1 model.mlp@1.l1=1"], "d": ["dropout=0"]}
    dials["c"] = ["aux_weight=0.1"]
    arms = {"axes": {"m": ["mlp=relu_l1"]}, "baselines": {"d": "mlp=dense"}}
    asked = grid(
        **arms, base="tiny", posthoc={"c": "of=d k=2 width=24"}, tune=replace(TUNING, dials=dials)
    )
    cells = asked.cells()
    check_trials(asked, cells)
    told = [c for arm in searches(asked, cells) if not arm.arm.fit for c in dialled(arm)]
    assert [cell.config.model.filling("mlp", 1).l1 for cell in told[:2]] == [0.01, 1.0]
    assert told[2].config.model.dropout == 0.0


def dialled(search):
    """The runs of a search in which its arm's dial is turned."""
    point, words = Point(RATES[0]), search.tuning.dial_of(search.arm.values)
    return trials(
        replace(search, tuning=replace(search.tuning, seeds=(9,))),
        [point._replace(dial=one) for one in words],
    )


def test_every_arm_is_told_its_own_rate_and_says_who_chose_it(tmp_path):
    asked, folder = grid(), GridFolder(tmp_path / "g")
    cells = asked.cells()
    folder.open(asked, cells)
    run = Pretended(folder, {"mlp.k=2": 0.002, "mlp.k=8": 0.016, "baseline": 0.001})
    code, told = tuned(asked, cells, folder, run)
    folder.open(asked, told)
    folder.open(asked, cells)
    with pytest.raises(UserError, match="it is tuned otherwise"):
        folder.open(replace(asked, tune=Tuning(seeds=(7,))), cells)
    assert code == 0 and [cell.name for cell in told] == [cell.name for cell in cells]
    assert [c.config.train.lr for c in told] == [0.002] * 2 + [0.016] * 2 + [0.001] * 2
    assert {c.selected_by for c in told} == {SELECTED_BY} and asked.split == "test"
    assert {cell.seed for cell in run.cells} == {100, 101}
    assert len({cell.name for cell in run.cells}) == len(run.cells)
    arms = json.loads((tmp_path / "g" / "tuning.json").read_text())["arms"]
    assert [arm["chosen"]["rate"] for arm in arms] == [0.002, 0.016, 0.001]
    assert arms[1]["curve"][0]["bits"] == pytest.approx(2 + 4 + 0.1005)
    assert arms[2]["curve"][-1]["bits"] is None and not any(arm["at_edge"] for arm in arms)


def test_a_search_that_was_stopped_goes_on(tmp_path):
    asked, folder = grid(baselines={}), GridFolder(tmp_path / "g")
    cells = asked.cells()
    folder.open(asked, cells)
    run = Pretended(folder, {"mlp.k": 0.002}, stops=1)
    assert tuned(asked, cells, folder, run) == (EXIT_RESUME, [])
    assert tuned(asked, cells, folder, run)[0] == 0


def test_an_arm_whose_trial_cannot_be_run_stays_untuned(tmp_path):
    asked, folder = grid(baselines={}), GridFolder(tmp_path / "g")
    cells = asked.cells()
    folder.open(asked, cells)
    run = Pretended(folder, {"mlp.k": 0.002})

    def broken(grid, cells, kept):
        for cell in cells:
            if "mlp.k=8" in cell.arm:
                folder.fail(cell.name, Failure("it ran out of memory", 1, 1))
        return run(grid, [cell for cell in cells if "mlp.k=8" not in cell.arm], kept)

    _, told = tuned(asked, cells, folder, broken)
    assert [bool(cell.selected_by) for cell in told] == [True, True, False, False]
    arms = json.loads((tmp_path / "g" / "tuning.json").read_text())["arms"]
    assert arms[1]["chosen"] is None and arms[1]["defect"] == "it ran out of memory"


FILE = """\
from pellucid.sweep import Grid, Tuning
grid = Grid(
    name="tuned",
    base={base!r},
    axes={{"k": ["mlp.k=2"]}},
    seeds=(0,),
    suite="smoke",
    tune=Tuning(rates=(0.0005, 0.001, 0.002, 0.004), seeds=(9,), words="train.steps=2", extensions=1),
)
"""


def test_a_tuned_grid_from_file_to_page(kept_worker, tmp_path, capsys):
    file, out = tmp_path / "tuned.py", tmp_path / "out"
    file.write_text(FILE.format(base=" ".join(SMALL)))
    assert main(["sweep", str(file), "--out", str(out), "--dry-run"]) == 0
    assert "tuned, tuning: 4 cells" in capsys.readouterr().out and not out.exists()
    assert main(["sweep", str(file), "--out", str(out), "--workers", "1"]) == 0
    tuned_words = json.loads((out / "grid.json").read_text())["cells"]["mlp.k=2-seed0"]["tuned"]
    arm = json.loads((out / "tuning.json").read_text())["arms"][0]
    cell = RunFolder(out / "cells" / "mlp.k=2-seed0")
    assert cell.read_config()["train"]["lr"] == arm["chosen"]["rate"]
    assert f"train.lr={arm['chosen']['rate']:g}" in tuned_words
    assert cell.read_config()["train"]["steps"] != 2
    assert cell.read_manifest()["selected_by"] == list(SELECTED_BY)
    scores = {s["metric"]: s for s in cell.read_scores()["scores"]}
    assert scores["bits_per_byte"]["split"] == "test"
    assert scores["bits_per_byte"]["value"] is not None
    found = seen(cell)
    assert "was chosen by it" in refusal(found, "bits_per_byte", "m", ("val:bits_per_byte",))
    assert refusal(found, "bits_per_byte", "m", ("test:bits_per_byte",)) is None
    with_eval = ["eval", str(cell.path), "--suite", "smoke"]
    assert main(with_eval) == 0
    held = {s["metric"]: s for s in cell.read_scores()["scores"]}["bits_per_byte"]
    assert held["value"] is None and "refused" in held["flags"][0]
    assert main(["compare", str(out)]) == 0
    page = (out / "compare.html").read_text()
    assert "Tuning of mlp.k=2" in page
