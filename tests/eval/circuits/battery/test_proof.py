"""What stands beside a circuit in its file."""

import json
from dataclasses import replace
from types import SimpleNamespace

import torch
from support.circuit_cases import TARGET, case_of
from support.programs import PROGRAMS

from pellucid.eval.circuits import battery
from pellucid.eval.circuits.content import Found
from pellucid.eval.circuits.find import find
from pellucid.eval.circuits.proof import case_of as case_of_run
from pellucid.eval.circuits.proof import proof
from pellucid.eval.circuits.settings import Settings


def test_a_circuit_of_a_run_is_proved_with_the_search_that_found_it(monkeypatch):
    quick = battery.Repeats(random_circuits=8, halves=4, fractions=3, draws=1)
    monkeypatch.setattr(battery, "repeats_of", lambda profile: quick)
    planted = case_of(PROGRAMS["quote"](), pairs=12)
    settings = Settings(steps=20, penalties=(1e-3,), lr=0.05)
    base = planted.base("mean", planted.asked)
    circuit = find(planted.model, planted.nodes, planted.asked, base, settings, 3)
    found = Found(
        model=planted.model,
        nodes=planted.nodes,
        asking=SimpleNamespace(name="planted"),
        searched=planted.asked,
        unseen=planted.unseen,
        base=base,
        circuit=circuit,
        settings=settings,
        profile="quick",
        grain="parts",
        step=0,
        seed=3,
    )
    about = SimpleNamespace(model=planted.model.config, seed=0)
    run = SimpleNamespace(model=planted.model, config=about)
    case = case_of_run(run, found, planted.text, quick)
    again = case.find(case.model, case.nodes, case.asked, case.base("mean", case.asked), case.seed)
    assert torch.equal(again.scores, circuit.scores) and case.target == TARGET
    made = proof(run, found, planted.text)
    written = json.loads(json.dumps(made, allow_nan=False))
    names = {entry["name"]: entry for entry in written["battery"]}
    assert names["swapped_labels"]["value"] == 1 / 6 and names["seed_overlap"]["passes"]
    assert not [name for name, entry in names.items() if entry["passes"] is False]
    assert written["faithful"]["nodes"] == 1 and not written["faithful"]["censored"]
    assert written["faithful"]["nonsense_ratio"] == names["nonsense_mapping"]["value"]
    assert "all pairs of a file" in written["faithful"]["fresh"]["reason"]
    assert replace(case, mean=None).base("mean", case.asked).keys() == base.keys()
    # Side by side, from copies, on a thread each: the same numbers, and the model is as it was.
    weights = {name: value.clone() for name, value in planted.model.state_dict().items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert proof(run, found, planted.text) == made
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(weights[n], value) for n, value in planted.model.state_dict().items())
