"""The analysis of H3 on made-up grids: planted ratios are found, and nothing is extrapolated."""

import json
import math

import numpy as np
import pytest

from pellucid.errors import RunError
from pellucid.eval.tasks import TASKS as TABLE
from pellucid.experiments import h3
from pellucid.sweep import load_grid
from pellucid.sweep.statistics import Effect

TASKS = ("not_in", "for_while", "try_except")
WIDTHS = (64, 96, 128, 192, 320)
WHOLE = 30.0
"""log2 of the size of a whole model, far above that of any circuit."""


def active(d):
    return 48 * d * d


def dense_bits(d):
    return 3.0 - 0.1 * math.log(active(d))


def dense_size(d, task):
    """log2 of the faithful size: it grows with the model, and differs between tasks."""
    return 4.0 + math.log2(active(d)) / 2 + 3 * TASKS.index(task)


def cell(
    path,
    name,
    seed,
    *,
    bits,
    sizes,
    size=1e5,
    nonsense=2.0,
    alone=2.0,
    beside=0.0,
    data="a",
    full=0.0,
    right=None,
    missed=(),
):
    """A finished cell; `alone` is how much smaller the circuit is at the means, `beside` by how much
    each of its other sizes is smaller than the one before, `right` what the model's accuracy is where
    it is not 1, `missed` the tasks that count as the whole model."""
    sizes = sizes | dict.fromkeys(missed, WHOLE)
    run = path / "cells" / name
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"seed": seed, "model": {}, "data": {}}))
    manifest = {"data_fingerprint": data, "account": {"active": size, "total": size}}
    (run / "manifest.json").write_text(json.dumps(manifest | {"finished": {"step": 1}}))
    (run / "metrics.jsonl").write_text("")
    parts = {h3.FAITHFUL: sizes, h3.ALONE: {t: v - alone for t, v in sizes.items()}}
    parts |= {h3.NONSENSE: dict.fromkeys(sizes, nonsense), h3.CENSORED: dict.fromkeys(sizes, full)}
    for n, metric in enumerate(h3.BESIDE, 1):
        parts[metric] = {t: v - n * beside for t, v in sizes.items()}
    parts[h3.ACCURACY] = dict.fromkeys(sizes, 1.0) | (right or {})
    values = {f"{metric}:{t}": v for metric, of in parts.items() for t, v in of.items()}
    scores = [
        {"metric": m, "value": v, "flags": []}
        for m, v in (values | {"bits_per_byte": bits}).items()
    ]
    (run / "scores.json").write_text(json.dumps({"format": 1, "scores": scores}))


def made(path, arms, seeds=range(5), odd=None, tasks=TASKS):
    """A grid of a ladder and arms: {label: fields of its cells, `gain` in log2 among them}."""
    cells, rng = {}, np.random.default_rng(0)
    for seed in seeds:
        noise = {t: rng.normal(0, 0.05) for t in tasks}
        for d in WIDTHS:
            name = f"d{d}-{seed}"
            cells[name] = {"seed": seed, "values": {"baseline": f"dense d{d}"}}
            about = {"bits": dense_bits(d) + 0.01 * seed, "size": active(d)}
            about["sizes"] = {t: dense_size(d, t) + noise[t] for t in tasks}
            cell(path, name, seed, **about | (odd or {}).get(name, {}))
        for arm, fields in arms.items():
            fields = dict(fields)
            d, gain = fields.pop("d", 150), fields.pop("gain", 0.0)
            name = f"{arm}-{seed}"
            cells[name] = {"seed": seed, "values": {"arm": arm}}
            sizes = {t: dense_size(d, t) - gain + rng.normal(0, 0.05) for t in tasks}
            cell(path, name, seed, bits=dense_bits(d) + 0.01 * seed, sizes=sizes, **fields)
    circuits = {"tasks": list(tasks)}
    about = {"format": 1, "name": "h3", "cells": cells, "circuits": circuits, "seeds": list(seeds)}
    (path / "grid.json").write_text(json.dumps(about))
    return {found.arm: found for found in h3.findings(path)}


def test_a_planted_ratio_is_found_at_equal_bits_per_byte(tmp_path):
    arms = {
        "eight": {"gain": 3.0, "alone": 3.0, "beside": 1.0, "full": 0.5},
        "none": {"gain": 0.0},
        "nonsense": {"gain": 3.0, "nonsense": 0.5},
        "three": {"gain": math.log2(3)},
    }
    found = made(tmp_path, arms)
    eight = found["eight"]
    # No rung has the arm's bits per byte: between two of them, on the line of the logarithms.
    assert eight.faithful.value == pytest.approx(3.0, abs=0.1)
    assert eight.faithful.low < 3.0 < eight.faithful.high and eight.faithful.n == 5
    assert eight.alone.value == pytest.approx(4.0, abs=0.1)
    assert eight.nonsense.value == pytest.approx(2.0) and eight.censored == 0.5
    verdicts = {arm: one.verdict for arm, one in found.items()}
    assert verdicts == {
        "eight": "confirmed",
        "none": "refuted",
        "nonsense": "open",
        "three": "open",
    }
    shown = h3.table([*found.values()])
    row, other = (line for line in shown.splitlines() if line.startswith("| eight |"))
    ratios = [float(column.split()[0]) for column in row.split("|")[2:5]]
    assert ratios == pytest.approx([8, 16, 4], rel=0.07)
    assert row.endswith("| 0% / 50% | 5 | confirmed |")
    # Nodes and edges stand apart from bits, of which the verdict is.
    ratios = [float(column.split()[0]) for column in other.split("|")[2:-1]]
    assert ratios == pytest.approx([16, 32, 64, 128, 256], rel=0.07)
    assert [one.split(" / arm, ")[1] for one in shown.splitlines()[-6].split("|")[2:-1]] == [
        f"{name} " for name in h3.BESIDE.values()
    ]


def test_tasks_that_the_dense_models_miss_are_told_beside_the_ratio(tmp_path):
    # Of the rungs on either side of the arm the larger counts as whole; the arm is at one quarter.
    between = 128 ** (3 / 4) * 192 ** (1 / 4)
    odd = {f"d{d}-{seed}": {"full": 1.0} for d in (192, 320) for seed in range(5)}
    (arm,) = made(tmp_path, {"a": {"gain": 3.0, "d": between}}, odd=odd).values()
    assert arm.censored == 0.0 and arm.censored_dense == pytest.approx(0.25)
    assert "| 25% / 0% | 5 |" in h3.table([arm])


def test_a_task_that_a_rung_fails_changes_no_ratio_and_is_named(tmp_path):
    """Counted at full size it would be the dense models' loss, and the arm's ratio would grow."""
    missed = {"right": {"try_except": 0.6}, "missed": ("try_except",)}
    odd = {f"d192-{seed}": missed for seed in range(5)}
    (arm,) = made(tmp_path / "some", {"a": {"gain": 1.0}}, odd=odd).values()
    (two,) = made(tmp_path / "two", {"a": {"gain": 1.0}}, tasks=TASKS[:2]).values()
    assert arm.faithful.value == pytest.approx(two.faithful.value, abs=0.1)
    assert arm.faithful.value == pytest.approx(1.0, abs=0.1)
    assert arm.said == ("try_except is left out: dense d192 is right in 0.60",)
    assert "a: try_except is left out" in h3.table([arm])
    # Passed, and counted whole as no search reached the target: it enters, and is told.
    odd = {f"d192-{seed}": missed | {"right": {"try_except": 0.9}} for seed in range(5)}
    (whole,) = made(tmp_path / "whole", {"a": {"gain": 1.0}}, odd=odd).values()
    assert whole.faithful.value > 2.0 and whole.said == ()


def test_one_seed_of_one_arm_is_enough_to_fail_and_what_is_unknown_is_not_passed(tmp_path):
    arms = {"a": {"gain": 3.0}, "b": {"gain": 1.0}}
    odd = {"d320-4": {"right": {"not_in": 0.89}}}
    found = made(tmp_path / "one", arms, odd=odd)
    for arm in found.values():
        assert arm.said == ("not_in is left out: dense d320 is right in 0.89",)
    arms["b"]["right"] = {"for_while": None}
    found = made(tmp_path / "unknown", arms)
    assert found["a"].said == ("for_while is left out: b has no accuracy",)
    assert found["a"].faithful.value == pytest.approx(3.0, abs=0.1)
    arms["b"]["right"] = dict.fromkeys(TASKS, 0.5)
    none = made(tmp_path / "none", arms)["a"]
    assert none.faithful.value is None and none.verdict == "open" and len(none.said) == 3


def test_beyond_the_ladder_nothing_is_said(tmp_path):
    found = made(tmp_path, {"better": {"gain": 5.0, "d": 400}, "worse": {"gain": 5.0, "d": 40}})
    for arm in found.values():
        assert arm.faithful.value is None and arm.verdict == "open" and arm.censored is None
        assert "nothing is extrapolated" in arm.said[0]
    assert "| better | – | – | – | – / – | 0 | open |" in h3.table([*found.values()])


def test_a_seed_whose_ladder_cannot_be_used_is_left_out_and_told(tmp_path):
    found = made(tmp_path, {"a": {"gain": 3.0}}, odd={"d64-1": {"data": "b"}, "d96-2": {"bits": 9}})
    assert found["a"].faithful.n == 3
    assert "seed 1: d64-1 was trained on other data" in found["a"].said[0]
    assert "seed 2: the dense model of" in found["a"].said[1]
    (tmp_path / "cells" / "d128-3" / "scores.json").unlink()
    assert "d128-3 is trained: not scored" in " ".join(h3.findings(tmp_path)[0].said)


def test_a_task_without_a_number_is_left_out_and_named(tmp_path):
    sizes = {t: dense_size(64, t) for t in TASKS[:2]}
    (arm,) = made(
        tmp_path,
        {"a": {"gain": 3.0}},
        odd={"d64-1": {"sizes": sizes, "right": {"try_except": 1.0}}},
    ).values()
    assert arm.faithful.value == pytest.approx(3.0, abs=0.1) and arm.faithful.n == 5
    assert f"{h3.FAITHFUL} is not known everywhere of try_except" in arm.said
    # The arm's own numbers are all there.
    assert not any(h3.NONSENSE in said for said in arm.said)


def test_few_seeds_are_marked_and_one_has_no_verdict(tmp_path):
    (three,) = made(tmp_path / "3", {"a": {"gain": 3.0}}, seeds=(0, 1, 2)).values()
    assert "exploratory: 3 seeds" in h3.table([three]) and three.verdict == "confirmed"
    (one,) = made(tmp_path / "1", {"a": {"gain": 3.0}}, seeds=(0,), tasks=TASKS[:1]).values()
    assert one.faithful.value == pytest.approx(3.0, abs=0.2) and one.verdict == "open"


def effect(low, high):
    return Effect(value=(low + high) / 2, low=low, high=high, p=0.5, n=5)


@pytest.mark.parametrize(
    ("low", "high", "nonsense", "verdict"),
    [
        (2.01, 5, 1.01, "confirmed"),
        (1.99, 5, 1.01, "open"),
        (2.01, 5, 0.99, "open"),
        (-1, 0.99, 3.0, "refuted"),
        (-1, 1.01, 3.0, "open"),
    ],
)
def test_the_verdict_is_that_of_the_rule(low, high, nonsense, verdict):
    found = {"faithful": effect(low, high), "nonsense": effect(nonsense - 1, nonsense + 1)}
    assert (
        h3.Finding(arm="a", alone=effect(0, 1), censored=0.0, censored_dense=0.0, **found).verdict
        == verdict
    )


def test_what_is_no_such_grid_is_told(tmp_path):
    with pytest.raises(RunError, match="is not a grid"):
        h3.findings(tmp_path)
    (tmp_path / "grid.json").write_text('{"cells": {}, "name": "g"}')
    with pytest.raises(RunError, match="declares none"):
        h3.findings(tmp_path)


def test_the_minimal_version_is_a_part_of_the_whole():
    whole, small = load_grid("h3"), load_grid("h3_minimal")
    assert small.base == whole.base and small.tune == whole.tune
    assert small.endpoints == whole.endpoints and small.baselines == whole.baselines
    assert set(small.circuits.tasks) < set(whole.circuits.tasks)
    configs = {c.identity for c in whole.cells()}
    assert {cell.identity for cell in small.cells()} < configs


def test_the_reference_has_as_many_weights_as_the_sparse_arm_keeps():
    cells = {cell.arm: cell.config.model for cell in load_grid("h3").cells()}
    arms = [model for arm, model in cells.items() if not arm.startswith("baseline")]
    of_layer = lambda d: 4 * d * d + 8 * d * d
    dense = cells["baseline: dense d128"]
    assert of_layer(dense.d_model) == arms[0].constraint.density * of_layer(arms[0].d_model)


def test_edges_are_searched_for_and_four_tasks_have_strata():
    for name in ("h3", "h3_minimal"):
        metrics = load_grid(name).circuits.metrics
        assert {h3.FAITHFUL, h3.ALONE, h3.NONSENSE, h3.ACCURACY, *h3.BESIDE} <= set(metrics)
    far = [task for task in h3.TASKS if TABLE[task].distances]
    assert far == ["single_double_quote", "set_or_string_fixedvarname", "bracket_counting"] + [
        "try_except"
    ]


def strata(*losses, reason=None):
    """Rows of a circuit's file: at each distance the circuit's loss, and the model's half of it."""
    rows = zip((0, 8, 32, 128), losses, strict=True)
    half = lambda loss: loss if loss is None else loss / 2
    about = lambda loss: {
        "circuit": loss,
        "model": half(loss),
        "reason": reason if not loss else None,
    }
    return {"format": 1, "strata": [{"distance": d, **about(loss)} for d, loss in rows]}


def test_losses_at_distances_are_means_over_the_circuits_that_have_all_of_them(tmp_path):
    made(tmp_path, {"a": {"gain": 3.0, "right": {"not_in": 0.5}}})
    files = {
        ("a-0", "try_except"): strata(0.1, 0.2, 0.4, 0.8),
        ("a-1", "try_except"): strata(0.3, 0.4, 0.6, 1.0),
        ("a-2", "try_except"): strata(9.0, 9.0, 9.0, None, reason="prompts are too long"),
        ("a-1", "for_while"): {"format": 1},
        ("a-1", "not_in"): strata(5.0, 5.0, 5.0, 5.0),
        ("d64-0", "try_except"): strata(0.1, 0.1, 0.1, 0.1),
    }
    for (cell_name, task), content in files.items():
        place = tmp_path / "cells" / cell_name / "circuits"
        place.mkdir(exist_ok=True)
        (place / f"{task}.json").write_text(json.dumps(content))
    said = h3.distances(tmp_path)
    assert "| arm | near | 8 tokens | 32 tokens | 128 tokens | circuits | tasks |" in said
    losses = "0.200 / 0.100 | 0.300 / 0.150 | 0.500 / 0.250 | 0.900 / 0.450"
    assert f"| a | {losses} | 2 | try_except |" in said
    assert "| dense d64 | 0.100 / 0.050 |" in said and "d96" not in said
    assert said.endswith("a: a-2, try_except: prompts are too long")
    assert said in h3.told(tmp_path) and h3.table(h3.findings(tmp_path)) in h3.told(tmp_path)


def test_without_strata_nothing_is_said_of_distances(tmp_path):
    made(tmp_path, {"a": {"gain": 3.0}})
    assert h3.distances(tmp_path) == ""
