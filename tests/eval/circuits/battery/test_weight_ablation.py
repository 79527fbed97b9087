"""Weights of a circuit at 0 in the whole model, beside others of their size."""

from types import SimpleNamespace

import pytest
import torch
from support.circuit_cases import case_of
from support.planted_parts import SAYS_1, planted, planted_case
from support.programs import PROGRAMS
from support.small import small_model

from pellucid.eval.circuits.battery.weight_ablation import (
    Weights,
    arbitrary,
    matched,
    weight_ablation,
    weights_of,
)
from pellucid.eval.circuits.gates import edges_of
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.weights import Link

FIRST = "blocks.0.mlp:0"
WASTE = [(0, {"tok2": 1.0}, 0.0, {"waste": 1.0})] * 7
"""Neurons with weights as large as those of the mechanism, that nothing reads."""
CHANCE = 0.6931


def test_the_weights_of_the_mechanism_carry_the_task_and_others_of_their_size_do_not():
    case = planted_case(planted(SAYS_1, *WASTE), [FIRST])
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    (check,) = weight_ablation(case)
    # Without it the two kinds of prompt are alike.
    assert check.value == pytest.approx(1, abs=1e-6) and check.passes and check.reason is None
    assert "circuit's 2 weights" in check.says and f"to {CHANCE:.3f} nats: 100%" in check.says
    assert "about their size cost 0%, any others 0%" in check.says
    assert all(torch.equal(before[n], value) for n, value in case.model.state_dict().items())


def test_a_circuit_whose_weights_do_nothing_is_failed():
    (check,) = weight_ablation(planted_case(planted(SAYS_1, *WASTE), ["blocks.0.mlp:1"]))
    assert check.value == 0 and not check.passes
    # The mechanism's own are among the others, of which each may be drawn.
    assert "goes from 0.039 to 0.039 nats: 0% of" in check.says
    assert "cost 0%" not in check.says and "cost 100%" not in check.says


def test_a_circuit_is_failed_where_other_weights_of_its_size_cost_as_much():
    """Two neurons, of which each turns one kind of prompt around, and the circuit has one."""
    one, two = (0, {"tok1": 1.0}, 0.0, {"out1": 10.0}), (0, {"tok2": 1.0}, 0.0, {"out1": -10.0})
    small = (0, {"tok2": 0.01}, 0.0, {"waste": 0.01})
    model = planted(one, two, *[small] * 4)
    said = int(model.head.weight[1].argmax())
    model.embedding.weight[1, said], model.embedding.weight[2, said] = -5.0, 5.0
    (check,) = weight_ablation(planted_case(model, [FIRST]))
    assert check.value == pytest.approx(1, abs=1e-3) and check.passes is False
    assert "about their size cost 100%" in check.says and check.reason is None


def test_where_there_are_few_others_or_none_there_is_no_verdict():
    for model, others in ((planted(SAYS_1), 0), (planted(SAYS_1, *WASTE[:3]), 6)):
        (check,) = weight_ablation(planted_case(model, [FIRST]))
        assert check.value == pytest.approx(1, abs=1e-6) and check.passes is None
        assert f"2 weights have too few others to be compared with, {others} in" in check.reason
    # What the model does not need is no circuit, whatever else there is.
    (check,) = weight_ablation(planted_case(planted(SAYS_1, *WASTE[:1]), ["blocks.0.mlp:1"]))
    assert check.value == 0 and check.passes is False
    (check,) = weight_ablation(planted_case(planted(SAYS_1), []))
    assert check.value is None and check.reason == "the circuit has no weight"
    (check,) = weight_ablation(planted_case(planted(*WASTE), [FIRST]))
    assert check.value is None and check.reason == "the whole model's loss is 0.693 nats"


def test_weights_of_parts_are_all_that_they_read_and_write_by():
    case = case_of(PROGRAMS["induction"]())
    found, unknown = weights_of(case)
    by_name = {each.link.name: each for each in found}
    assert not unknown and by_name.keys() == {
        f"blocks.{layer}.{name}"
        for layer in (0, 1)
        for name in (*(f"attention.w_{x}" for x in "qkvo"), "mlp.w_in", "mlp.w_out")
    }
    # In each layer head 0 is the program's, and head 1 a decoy, as all neurons are.
    for name, (link, mine, other) in by_name.items():
        there, d_head = link.weight != 0, case.model.blocks[0].attention.d_head
        own = torch.zeros_like(there)
        if "attention" in name:
            own[(slice(None), slice(d_head)) if name.endswith("w_o") else slice(d_head)] = True
        assert torch.equal(mine.view_as(there), there & own) and there.any(), name
        assert torch.equal(other.view_as(there), there & ~own), name


def test_weights_of_channels_are_the_static_edges():
    model = small_model("topk")
    nodes = nodes_of(model)
    kept = torch.rand(len(nodes), generator=torch.Generator().manual_seed(1)) < 0.3
    found, unknown = weights_of(
        SimpleNamespace(model=model, nodes=nodes, circuit=SimpleNamespace(kept=kept))
    )
    assert sum(each.size for each in found) == len(edges_of(model, nodes, kept)) > 0
    assert not unknown and not any((each.mine & each.other).any() for each in found)
    model = small_model("moe")
    nodes = nodes_of(model)
    kept = torch.ones(len(nodes), dtype=torch.bool)
    found, unknown = weights_of(
        SimpleNamespace(model=model, nodes=nodes, circuit=SimpleNamespace(kept=kept))
    )
    assert len(unknown) == 2 and {each.link.name.split(".")[2] for each in found} == {"attention"}


def test_others_are_matched_by_size_and_drawn_from_the_rest():
    module = torch.nn.Module()
    module.w = torch.tensor([[1.0, 1.1, 5.0, 0.0], [0.0, -5.2, 0.2, 0.3]])
    numbers = torch.arange(8)
    mine, other = (torch.isin(numbers, torch.tensor(n)) for n in ([0, 2], [1, 5, 6, 7]))
    weights = Weights(Link("w", "a", "b", module, "w", "b"), mine, other)
    draws = [torch.Generator().manual_seed(seed) for seed in range(20)]
    for rng in draws:
        # 1.1 stands for 1, −5.2 for 5, however sizes are blurred.
        assert matched(weights, rng).nonzero()[:, 0].tolist() == [1, 5]
        drawn = arbitrary(weights, rng)
        assert drawn.sum() == 2 and not (drawn & ~other).any()
    assert len({tuple(arbitrary(weights, rng).tolist()) for rng in draws}) > 1
    few = weights._replace(other=numbers == 6)
    assert few.unmatched == 1 and matched(few, draws[0]).nonzero().tolist() == [[6]]
    assert arbitrary(few, draws[0]).nonzero().tolist() == [[6]]
