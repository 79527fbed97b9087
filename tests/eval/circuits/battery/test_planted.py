"""Circuits that only look as if they did a task, each failed by the control meant for it."""

from dataclasses import replace
from math import log2

import pytest
import torch
from support.planted_parts import BIG, ONE, SAYS_1, asked, planted, planted_case

from pellucid.eval.circuits import faithful
from pellucid.eval.circuits.battery import CONTROLS, Repeats
from pellucid.eval.circuits.battery.ablations import ablations
from pellucid.eval.circuits.battery.interchange import interchange
from pellucid.eval.circuits.battery.necessity import necessity
from pellucid.eval.circuits.battery.norms import frozen_norm
from pellucid.eval.circuits.battery.random_circuits import random_circuits
from pellucid.eval.circuits.battery.relaxation import relaxation
from pellucid.eval.circuits.nodes import Group, Nodes

PERFECT = 0.5 / 13  # the softened labels of 12 pairs leave this much doubt
FIRST, SECOND = (f"blocks.0.mlp:{n}" for n in range(2))
LATE = "blocks.1.mlp:0"
CHANCE = 0.6931


def by_name(checks):
    return {check.name: check for check in checks}


def cancelling():
    """Beside the mechanism three neurons against it, and one that makes up for them."""
    against, back = (
        (0, {"tok1": 1.0}, 0.0, {"out1": -4.0}),
        (0, {"tok1": 1.0}, 0.0, {"out1": 12.0}),
    )
    return planted(SAYS_1, back, against, against, against)


CANCEL = [f"blocks.0.mlp:{n}" for n in range(5)]


def test_a_built_circuit_spikes_when_the_rest_is_let_in():
    """It does the task as long as what would undo it is left out."""
    case = planted_case(cancelling(), [FIRST], repeats=Repeats(draws=32))
    assert case.losses(case.kept).item() < 0.05
    found = by_name(relaxation(case))
    assert found["half_complements"].value >= CHANCE
    assert not found["relaxation"].passes and not found["half_complements"].passes
    shares, losses = zip(*found["relaxation"].points, strict=True)
    assert shares == pytest.approx([10**x for x in (-2, -1.5, -1, -0.5, 0)])
    # It begins at the loss of the circuit, spikes, and ends at that of the whole model.
    assert losses[0] < 0.25 < CHANCE / 2 < found["relaxation"].value == max(losses)
    whole = case.losses(torch.ones_like(case.kept)).item()
    assert losses[-1] == pytest.approx(whole, abs=1e-6)
    assert found["relaxation"].most == case.allowed


def test_a_weaker_copy_drowns_in_another_prompts_values():
    """Held at its mean the stronger mechanism is out of the way; it is not when it says other
    things than the prompt at hand."""
    stronger = (0, {"tok1": 1.0}, 0.0, {"out1": 4.0})
    case = planted_case(planted(SAYS_1, stronger), [FIRST])
    found = by_name([*ablations(case), *relaxation(case)])
    assert found["ablation_mean"].passes and found["relaxation"].passes
    assert found["ablation_resample"].value > 0.3 and not found["ablation_resample"].passes
    assert faithful.measure(case)["nodes"] == 2


def test_the_whole_of_what_cancels_is_faithful():
    case = planted_case(cancelling(), CANCEL)
    found = by_name([*relaxation(case), *ablations(case), *interchange(case)])
    assert all(check.passes is not False for check in found.values())
    assert found["relaxation"].value == pytest.approx(PERFECT, abs=0.01)
    assert faithful.measure(case)["nodes"] <= 5
    alone = faithful.measure(planted_case(cancelling(), [FIRST]))
    assert alone["nodes"] >= 2 and not alone["censored"]
    assert alone["fresh"]["loss"] is None and "no other pairs" in alone["fresh"]["reason"]


def test_a_circuit_of_norms_fails_once_they_are_held():
    """Two neurons that make the stream large, one of them against the other: alone, either moves
    every norm, and with it the one logit that is not 0."""
    up, down = ((0, {"tok1": 1.0}, 0.0, {"waste": sign * BIG}) for sign in (1, -1))
    steady = (0, {ONE: 1.0}, 0.0, {"out2": 4.0})
    model = planted(SAYS_1, up, down, steady)
    cheat = planted_case(model, [SECOND])
    assert cheat.losses(cheat.kept).item() < 0.05
    (check,) = frozen_norm(cheat)
    assert check.value == pytest.approx(CHANCE, abs=0.01) and not check.passes
    (check,) = frozen_norm(planted_case(model, [FIRST]))
    assert check.value == pytest.approx(PERFECT, abs=0.01) and check.passes


def test_a_node_that_does_other_things_in_the_model_fails_the_interchange():
    """A late neuron that an early one keeps silent in the whole model."""
    silencer = (0, {"tok1": 1.0}, 0.0, {"mid": -2.0})
    silenced = (1, {"tok1": 1.0, "mid": 1.0, ONE: 0.0}, 0.0, {"out1": 1.0})
    model = planted(SAYS_1, silencer, silenced)
    cheat = planted_case(model, [LATE])
    assert cheat.losses(cheat.kept).item() < 0.05
    found = by_name(interchange(cheat))
    assert found["interchange"].value == pytest.approx(CHANCE, abs=0.01)
    assert not found["interchange"].passes
    assert [share for share, _ in found["interchange"].points] == [0.25, 0.5, 0.75, 1.0]
    assert found["interchange"].points[-1][1] == pytest.approx(CHANCE, abs=0.01)
    assert found["unexplained"].value is None and "varies" in found["unexplained"].reason
    honest = by_name(interchange(planted_case(model, [FIRST])))
    assert honest["interchange"].passes and honest["unexplained"].value == 0


def test_what_a_node_misses_of_the_model_is_a_share_of_its_variance():
    """A late neuron reads the task from an early one that is left out, and so stands still."""
    early, late = (0, {"tok1": 1.0}, 0.0, {"mid": 1.0}), (1, {"mid": 1.0}, 0.0, {"out1": 1.0})
    model = planted(early, late)
    apart, whole = (planted_case(model, kept) for kept in ([LATE], [FIRST, LATE]))
    assert by_name(interchange(whole))["unexplained"].value == 0
    found = by_name(interchange(apart))["unexplained"]
    # Held at the mean m of the text, the values of the prompts (1 in a share p) miss (x − m)².
    x = torch.zeros(24 * 4)
    x[:12] = 1
    m = 8 / (32 * 4)
    wanted = (x - m).square().sum() / (x - x.mean()).square().sum()
    assert wanted > 1 and found.value == 1 and not found.passes
    assert f"{wanted:.0%} at the worst" in found.says


def test_without_a_twin_mechanism_the_model_goes_on():
    """A copy of the mechanism: the circuit is enough, and is not needed."""
    copy, other = SAYS_1, (0, {"tok2": 1.0}, 0.0, {"waste": 1.0})
    (check,) = necessity(planted_case(planted(SAYS_1, copy, other), [FIRST]))
    assert check.value == pytest.approx(0, abs=1e-6) and not check.passes
    (check,) = necessity(planted_case(planted(SAYS_1, other), [FIRST]))
    assert check.value == pytest.approx(1, abs=1e-6) and check.passes
    (check,) = necessity(planted_case(planted(other), [FIRST]))
    assert check.value is None and check.reason


def test_zero_takes_away_what_the_mean_leaves():
    """A neuron that is always on holds another one above its threshold."""
    always = (0, {ONE: 1.0}, 0.0, {"mid": 1.0})
    above = (1, {"tok1": 1.0, "mid": 1.0}, -1.0, {"out1": 1.0})
    case = planted_case(planted(always, above), [LATE])
    found = by_name(ablations(case))
    assert found["ablation_zero"].value == pytest.approx(CHANCE, abs=0.01)
    for name in ("mean", "resample", "mean_task"):
        assert found[f"ablation_{name}"].value == pytest.approx(PERFECT, abs=0.01)
    assert found["ablation_mean"].passes and found["ablation_resample"].passes
    assert found["ablation_zero"].passes is None and found["ablation_mean_task"].passes is None


def test_a_circuit_has_to_beat_others_of_its_size():
    other = [(0, {"tok2": 1.0}, 0.0, {"waste": 1.0})] * 7
    model = planted(SAYS_1, *other)
    (right,) = random_circuits(planted_case(model, [FIRST]))
    (wrong,) = random_circuits(planted_case(model, [SECOND]))
    assert right.value == 1 and right.passes
    assert wrong.value < 0.5 and not wrong.passes
    (none,) = random_circuits(planted_case(model, [f"blocks.0.mlp:{n}" for n in range(8)]))
    assert none.value is None and "as many nodes" in none.reason


def test_sizes_under_other_ablations_are_compared_where_asked_for():
    asked = []

    def find(model, nodes, prompts, base, seed):
        asked.append(base)
        return planted_case(model, [FIRST, SECOND]).circuit

    case = planted_case(
        planted(SAYS_1, SAYS_1), [FIRST], repeats=Repeats(by_ablation=True), find=find
    )
    found = by_name(ablations(case))
    assert [found[f"size_{name}"].value for name in ("zero", "mean_task", "resample")] == [2, 2, 2]
    assert asked[0]["blocks.0.mlp"] == 0.0 and asked[1]["blocks.0.mlp"].ndim == 1
    assert asked[2]["blocks.0.mlp"].shape == (24, 4, 8)


def test_the_same_case_gives_the_same_checks():
    def find(model, nodes, prompts, base, seed):
        return planted_case(model, [FIRST]).circuit

    first, second = (
        [check.to_json() for control in CONTROLS.values() for check in control(case)]
        for case in (planted_case(cancelling(), [FIRST], find=find) for _ in range(2))
    )
    assert first == second
    names = {entry["name"] for entry in first}
    assert len(names) == len(first) >= 15 and "weight_ablation" in names


def test_the_size_that_passes_on_one_draw_is_measured_on_another():
    """In fresh pairs token 5 stands for token 1, and another neuron than the first knows of it."""
    other = (0, {"tok5": 1.0}, 0.0, {"out1": 1.0})
    case = planted_case(planted(SAYS_1, other), [FIRST])
    new = asked(12, 7)
    found = faithful.measure(case, replace(new, tokens=torch.where(new.tokens == 1, 5, new.tokens)))
    assert found["nodes"] == 1 and found["loss"] <= case.target and not found["capped"]
    assert found["fresh"]["loss"] > CHANCE - 0.01 and found["fresh"]["pairs"] == 12
    alike = faithful.measure(case, new)
    assert alike["fresh"]["loss"] == pytest.approx(alike["loss"], abs=0.01)
    assert alike["fresh"]["worst"] in {name for name, _ in faithful.ways(case, case.circuit.kept)}


def test_half_of_each_group_has_as_many_bits_as_the_whole_model(monkeypatch):
    case = planted_case(planted(SAYS_1), [FIRST])
    half = torch.cat([torch.arange(g.size) < g.size // 2 for g in case.nodes.groups])
    for kept, capped in ((half, True), (half & (half.cumsum(0) > 2), False)):
        monkeypatch.setattr(faithful, "_smallest", lambda *_, kept=kept: kept)
        found = faithful.measure(case)
        assert found["capped"] is capped and found["nodes"] == int(kept.sum())


A, B = range(1000), range(1000, 1004)


@pytest.mark.parametrize(
    ("enough", "firsts", "nodes"),
    [
        # Two of a thousand nodes take more bits than all of another four.
        ([B, A[:2]], (A, B), 4),
        # Three of four take as many bits as two of them.
        ([B[:3], B[2:]], (B[:3], B[2:]), 2),
    ],
)
def test_of_two_rankings_that_of_fewer_bits_counts(enough, firsts, nodes, monkeypatch):
    groups = (Group("a", "unit", 0, 1000, {}), Group("b", "unit", 0, 4, {}))
    case = replace(planted_case(planted(SAYS_1), [FIRST]), nodes=Nodes(groups))
    rankings = [
        torch.tensor([*first, *(n for n in (*A, *B) if n not in first)]) for first in firsts
    ]

    def ways(case, kept):
        yield "mean", 0.1 if any(bool(kept[list(some)].all()) for some in enough) else 0.5

    monkeypatch.setattr(faithful, "ways", ways)
    for orders in (rankings, rankings[::-1]):
        monkeypatch.setattr(faithful, "orders", lambda case, orders=orders: orders)
        found = faithful.measure(case)
        assert found["nodes"] == nodes and found["bits"] == pytest.approx(log2(6))
