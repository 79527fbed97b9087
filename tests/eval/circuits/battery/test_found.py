"""Circuits that were searched for: what is found in nonsense and in hidden programs is failed."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.circuit_cases import TARGET, asked_of, case_with
from support.compiled import rotated_stream
from support.programs import PROGRAMS
from support.small import small_model

from pellucid.eval.circuits import faithful
from pellucid.eval.circuits.bases import means
from pellucid.eval.circuits.battery import Case, twins_of
from pellucid.eval.circuits.battery.ablations import ablations
from pellucid.eval.circuits.battery.nonsense import nonsense
from pellucid.eval.circuits.battery.relaxation import relaxation
from pellucid.eval.circuits.battery.twins import twins
from pellucid.eval.circuits.find import find
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.settings import Settings

PATIENT = Settings(steps=100, restarts=2, penalties=(1e-3,), lr=0.05, exact=512)
QUICK = Settings(steps=60, restarts=2, lr=0.05, exact=512)


def patiently(model, nodes, asked, base, seed):
    return find(model, nodes, asked, base, PATIENT, seed)


def cued(pairs, seed):
    """Rows whose last token but one is a cue; it has nothing to do with the answers."""
    drawn = torch.Generator().manual_seed(seed)
    tokens = torch.randint(20, 61, (pairs, 8), generator=drawn).repeat(2, 1)
    tokens[:, 7], tokens[:pairs, 6], tokens[pairs:, 6] = 9, 10, 11
    full = torch.ones(2 * pairs, dtype=torch.long)
    return Asked(tokens, 7 * full, full, 2 * full, torch.arange(2 * pairs) < pairs)


@pytest.fixture(scope="module")
def built():
    """A circuit of a task that means nothing to a model of random weights, which is at chance."""
    model = small_model("dense", seed=1).requires_grad_(False)
    model.norm.weight.mul_(40.0)
    nodes, asked = nodes_of(model), cued(24, 1)
    run = SimpleNamespace(model=model, config=SimpleNamespace(model=model.config, seed=1))
    text = [torch.randint(0, 61, (30, 24), generator=torch.Generator().manual_seed(5))]
    circuit = patiently(model, nodes, asked, means(model, nodes, text), 0)
    make = {"random_twin": twins_of(run)["random_twin"]}
    return Case(model, nodes, circuit, asked, cued(32, 2), text, patiently, make, 0)


def test_pruning_builds_a_circuit_for_nonsense_and_the_battery_fails_it(built):
    assert built.circuit.loss <= TARGET and built.circuit.size < len(built.nodes) / 2
    assert built.losses(torch.ones(1, len(built.nodes)) > 0).item() > 0.69
    failed = {c.name for c in [*relaxation(built), *ablations(built)] if c.passes is False}
    assert failed >= {"relaxation", "half_complements", "ablation_resample"}
    size = faithful.measure(built)
    assert size["nodes"] == len(built.nodes) and size["censored"] and size["worst"] == "model"


@pytest.mark.slow
def test_other_nonsense_has_as_small_a_circuit(built):
    checks = {check.name: check for check in [*twins(built), *nonsense(built)]}
    for name in ("random_twin", "swapped_labels"):
        assert checks[name].value > 0.5 and not checks[name].passes


def searched(turn: bool) -> Case:
    """The case of a circuit of channels of a program, as it is or with the stream turned."""
    program = PROGRAMS["histogram"]()
    if turn:
        rotated_stream(program.model, seed=1)
    nodes = nodes_of(program.model, "channels")
    case = case_with(program, nodes, None)
    base = case.base("mean", case.asked)
    circuit = find(program.model, nodes, asked_of(program, 24, 1), base, QUICK, 0)
    return replace(case, circuit=circuit, _bases={})


@pytest.mark.slow
def test_the_nodes_of_a_program_do_nothing_once_it_is_hidden_by_a_rotation():
    plain = searched(False)
    hidden = replace(plain, model=rotated_stream(deepcopy(plain.model), seed=1), _bases={})
    assert plain.circuit.size < len(plain.nodes) / 8
    assert plain.losses(plain.kept).item() < 0.3
    checks = {check.name: check for check in [*ablations(hidden), *relaxation(hidden)]}
    for name in ("ablation_mean", "ablation_resample", "half_complements", "relaxation"):
        assert checks[name].value > 0.5 and not checks[name].passes


@pytest.mark.slow
def test_a_program_hidden_by_a_rotation_has_no_small_circuit():
    plain, hidden = searched(False), searched(True)
    assert hidden.circuit.size > 4 * plain.circuit.size
    sizes = [faithful.measure(case) for case in (plain, hidden)]
    assert sizes[1]["nodes"] > 4 * sizes[0]["nodes"] and sizes[1]["bits"] > 1.5 * sizes[0]["bits"]
