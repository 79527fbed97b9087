"""The battery on compiled programs: true circuits stand it, as many other nodes do not."""

import pytest
from support.circuit_cases import case_of, decoys, true_nodes
from support.programs import PROGRAMS

from pellucid.eval.circuits import faithful
from pellucid.eval.circuits.battery.ablations import ablations
from pellucid.eval.circuits.battery.interchange import interchange
from pellucid.eval.circuits.battery.necessity import necessity
from pellucid.eval.circuits.battery.norms import frozen_norm
from pellucid.eval.circuits.battery.random_circuits import random_circuits
from pellucid.eval.circuits.battery.relaxation import relaxation
from pellucid.eval.circuits.nodes import nodes_of

PASSES = (ablations, frozen_norm, relaxation, random_circuits, necessity, interchange)
LEFT = 0.0202  # what softened labels of 24 pairs leave of a task without a mistake
WRONG = {
    "ablation_mean",
    "ablation_resample",
    "frozen_norm",
    "half_complements",
    "interchange",
    "random_circuits",
}


def found(case):
    return {check.name: check for control in PASSES for check in control(case)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_true_circuit_stands_every_control_of_one_pass(name):
    case = case_of(PROGRAMS[name]())
    checks = found(case)
    assert [check.name for check in checks.values() if check.passes is False] == []
    for check in checks.values():
        wanted = {"nats": LEFT, "ratio": 1.0, "share": 0.0 if check.name == "unexplained" else 1.0}
        assert check.value == pytest.approx(wanted[check.unit], abs=1e-3), check


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_many_other_nodes_are_failed(name):
    """Some parts of the circuit are among them where it is more than half of the program."""
    program = PROGRAMS[name]()
    nodes = nodes_of(program.model, "parts")
    kept = true_nodes(nodes, program)
    checks = found(case_of(program, decoys(nodes, kept)))
    failed = {check.name for check in checks.values() if check.passes is False}
    assert failed >= WRONG
    if 2 * kept.sum() <= len(nodes):
        assert checks["necessity"].value == 0 and not checks["necessity"].passes
    for name in WRONG - {"random_circuits"}:
        assert checks[name].value > 0.5


@pytest.mark.parametrize("name", ["induction", "quote"])
def test_the_faithful_size_is_that_of_the_program(name):
    """Where each of its nodes is needed."""
    program = PROGRAMS[name]()
    case = case_of(program)
    right, wrong = (
        faithful.measure(each)
        for each in (case, case_of(program, decoys(case.nodes, case.circuit.kept)))
    )
    assert right["nodes"] == len(program.nodes) and not right["censored"]
    assert right["loss"] == pytest.approx(LEFT, abs=1e-3)
    assert wrong["nodes"] > right["nodes"] and wrong["bits"] >= right["bits"]
