"""Circuits of a run: the file that is written, the gate, and what cannot be asked for."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.marks import slow_but

from pellucid import cli
from pellucid.commands.circuits import faithful_size, mean_sizes
from pellucid.errors import EXIT_USER, UserError
from pellucid.eval.circuits import battery, edged, prune_edges
from pellucid.eval.circuits import run as circuit_run
from pellucid.eval.circuits.battery import Repeats
from pellucid.eval.circuits.edged import joined
from pellucid.eval.circuits.frozen import held_at, scales_of
from pellucid.eval.circuits.objective import margins_of
from pellucid.eval.circuits.proof import case_of
from pellucid.eval.circuits.run import Search
from pellucid.eval.circuits.settings import PROFILES, Settings
from pellucid.eval.circuits.shown import nodes_in
from pellucid.eval.circuits.sizes import bits
from pellucid.experiments import run_config
from pellucid.models import record
from pellucid.train import train

PAIRS = [
    {"prompt_a": f"for {x}", "prompt_b": f"if {x}", "answer_a": "+", "answer_b": "-"}
    for x in "abcdef"
]


@pytest.fixture
def task(tmp_path) -> Path:
    """Six pairs of short prompts."""
    return written(tmp_path / "own.jsonl", PAIRS)


def written(file: Path, pairs: list[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return file


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A search of a few steps, and of each control the fewest repetitions that say anything."""
    monkeypatch.setitem(PROFILES, "quick", Settings(steps=6, drawn=4, pairs=2, rounds=1))
    few = Repeats(random_circuits=4, halves=4, fractions=2, draws=1)
    monkeypatch.setattr(battery, "repeats_of", lambda profile: few)
    monkeypatch.setattr(circuit_run, "ROWS", 8)


def finite(value) -> bool:
    """Whether all numbers in it are finite."""
    if isinstance(value, dict | list):
        return all(map(finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize("mlp", slow_but(["topk"], ["dense", "topk"]))
def test_what_is_written_is_what_was_found(make_run, task, mlp):
    run = make_run(mlp)
    search = Search(run=run, target=0.66, force=True, controls=False)
    content = search.write(str(task))
    assert run.folder.read_circuits() == {"own": content} and finite(content)
    found = search.found(str(task))
    kept = found.circuit.kept
    assert [node["id"] for node in content["nodes"]] == search.nodes.names(kept.nonzero()[:, 0])
    assert content["sizes"]["nodes"] == int(kept.sum())
    assert content["sizes"]["bits"] == bits(search.nodes, kept)
    assert content["candidates"] == len(search.nodes) and content["target"] == 0.66
    assert content["losses"]["circuit"] == found.circuit.loss
    assert content["censored"] == (found.circuit.loss > 0.66)
    assert content["losses"]["chance"] == pytest.approx(math.log(2))
    # Half of the pairs are seen, and the others not.
    assert [len(batch) for batch in found.asking[2:]] == [3, 3]
    shown = [run.tokenizer.token_text(t) for t in run.tokenizer.encode("for a")]
    assert content["example"]["tokens"][1:] == shown


def test_nodes_show_what_they_do_and_write(make_run, task):
    run = make_run("topk")
    search = Search(run=run, target=0.69, force=True, grain="parts", controls=False)
    content, found = search.write(str(task)), search.found(str(task))
    found.circuit.kept[:] = True
    listed, reasons = nodes_in(found, run.tokenizer)
    by_id = {node["id"]: node for node in listed}
    width = len(content["example"]["tokens"])
    with torch.no_grad(), record(run.model, ["blocks.1.mlp"]) as trace:
        run.model(found.searched.tokens[:1, :width])
    neuron = by_id["blocks.1.mlp:7"]
    wanted = trace["blocks.1.mlp"].to_dense()[0, :, 7].tolist()
    assert neuron["values"] == pytest.approx(wanted)
    assert neuron["base"] == pytest.approx(float(found.base["blocks.1.mlp"][7]))
    direction = run.model.sites()["blocks.1.mlp"].write_directions()[7:8]
    logits = run.model.direct_logits(direction)[0].detach()
    token = run.tokenizer.token_text(int(logits.argmax()))
    assert neuron["writes"][0] == [token, pytest.approx(float(logits.max()))]
    head = by_id["blocks.0.attention:1"]
    assert head["kind"] == "head" and len(head["values"]) == width
    assert len(head["writes"]) == 5 and head["writes"][0][1] > head["writes"][4][1]
    assert reasons["effect"].startswith("to first order")


def test_the_same_seed_writes_the_same_file(make_run, task, monkeypatch):
    """With pruned edges, all controls, and the faithful size."""
    shorter = Settings(steps=4, penalties=(1e-3,), drawn=4, pairs=2, rounds=1)
    monkeypatch.setitem(PROFILES, "quick", shorter)
    monkeypatch.setattr(edged, "QUICK_STEPS", 8)
    run, files = make_run("topk", n_layers=1), []
    for _ in range(2):
        content = Search(run=run, target=0.69, force=True, seed=3, edges=True).write(str(task))
        written = [run.folder.circuits / name for name in ("own.json", "own.contexts.json")]
        files.append([file.read_bytes() for file in written])
    assert files[0] == files[1] and finite(content)
    assert {check["name"] for check in content["battery"]} >= {"necessity", "nonsense_mapping"}
    assert content["sizes"]["nodes"] <= content["faithful"]["nodes"] <= content["candidates"]
    listed = {node["id"] for node in content["nodes"]}
    assert all({edge["source"], edge["target"]} <= listed for edge in content["edges"])
    sizes = content["sizes"]
    assert len(content["edges"]) == sizes["pruned_edges"] <= sizes["static_edges"]
    assert content["pruned_edges"]["loss"] <= 0.69 and len(content["mib"]["points"]) == 10


@pytest.mark.parametrize("grain", slow_but(["channels"], ["channels", "parts"]))
def test_held_norms_are_held_in_all_that_is_written_but_the_controls(
    make_run, task, grain, monkeypatch
):
    run, seen = make_run("topk"), []
    monkeypatch.setattr(
        circuit_run, "proof", lambda *about: seen.append(case_of(*about, Repeats())) or {}
    )
    search = Search(run=run, target=0.69, force=True, grain=grain, frozen_norm=True)
    content, found = search.write(str(task)), search.found(str(task))
    assert content["frozen_norm"] and finite(content)
    share = found.circuit.kept.float()
    for name, asked in (("circuit", found.searched), ("circuit_unseen", found.unseen)):
        free = replace(asked, scales=None)
        with torch.no_grad(), held_at(run.model, scales_of(run.model, asked.tokens)):
            margins = margins_of(run.model, search.nodes, free, share, found.base)
        loss = free.loss(margins, found.circuit.readout).item()
        assert content["losses"][name] == pytest.approx(loss, abs=1e-6)
    # Controls hold norms where they say so: sizes of all searches can be compared.
    (case,) = seen
    assert case.asked.scales is case.unseen.scales is None
    again = case.find(run.model, search.nodes, case.asked, found.base, search.seed)
    assert torch.equal(again.kept, found.circuit.kept)
    assert not Search(run=run, target=0.69, force=True, controls=False).write(str(task))[
        "frozen_norm"
    ]


def test_edges_of_heads_and_neurons_begin_at_the_embedding_and_end_at_the_logits(make_run, task):
    run = make_run("topk")
    content = Search(run=run, target=0.69, force=True, grain="parts", controls=False).write(
        str(task)
    )
    parts = ["embed", *(node["id"] for node in content["nodes"]), "logits"]
    edges = {(edge["source"], edge["target"]): edge["effect"] for edge in content["edges"]}
    effects = [edge["effect"] or 0.0 for edge in content["edges"]]  # a head has three of a source
    assert not content["censored"] and len(parts) > 2
    for part in parts[1:-1]:
        assert {("embed", part), (part, "logits")} <= edges.keys()
    assert ("embed", "logits") in edges and "edges" not in content["reasons"]
    felt = sum(abs(effect) > 0.0069 for effect in effects)
    assert felt == content["sizes"]["effect_edges"] > 0


def test_where_no_edge_is_needed_none_is_listed(make_run, task, monkeypatch):
    none = {"edges": [], "sizes": {"pruned_edges": 0}, "reasons": {}, "loss": 0.1}
    monkeypatch.setattr(prune_edges, "prune", lambda *about, **more: none | {"censored": False})
    search = Search(run=make_run("topk"), target=0.69, force=True, edges=True, controls=False)
    found = search.write(str(task))
    assert found["edges"] == [] and found["sizes"]["static_edges"] > 0


def test_what_is_written_is_joined_by_its_keys():
    nodes = {"nodes": [{"id": "a:1"}, {"id": "b:2"}], "sizes": {"nodes": 2}, "reasons": {}}
    edges = [{"source": "a:1", "target": end} for end in ("b:2", "logits", "c:3")]
    edges.append({"source": "embed", "target": "a:1"})
    more = {"edges": edges, "sizes": {"static_edges": 2}, "reasons": {"x": "y"}}
    found = joined(nodes, more)
    assert found["edges"] == [*edges[:2], edges[3]] and found["sizes"] == {
        "nodes": 2,
        "static_edges": 2,
    }
    lost = "1 edges of nodes that are not listed are left out"
    assert found["reasons"] == {"x": "y", "edges": lost}


def test_a_model_that_cannot_do_a_task_is_not_searched(make_run, task):
    run = make_run("dense")
    with pytest.raises(UserError, match=r"'own': the model's own loss is .* --force") as error:
        Search(run=run, target=0.01).write(str(task))
    assert "\n" not in str(error.value) and not run.folder.circuits.exists()
    Search(run=run, target=0.01, force=True, controls=False).write(str(task))
    assert run.folder.circuits.exists()


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (PAIRS[:1], "holds one pair: two or more"),
        ([PAIRS[0] | {"answer_b": "+"}] * 2, "answers cannot be told apart"),
        ([*PAIRS, PAIRS[0] | {"answer_b": "+"}], "answers cannot be told apart"),
        ([PAIRS[0] | {"prompt_a": "for a " * 40}] * 2, "at most the context, 32, fit"),
        ([{"prompt_a": "x"}] * 2, "exactly prompt_a, prompt_b, answer_a, answer_b"),
        ([], "holds no pairs"),
    ],
)
def test_a_file_of_pairs_that_cannot_be_asked_is_a_sentence(make_run, tmp_path, pairs, says):
    file = written(tmp_path / "bad.jsonl", pairs)
    with pytest.raises(UserError, match=says):
        Search(run=make_run("dense")).write(str(file))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"seed": -1}, "seed -1 is not accepted"),
        ({"seed": 2**63}, "seed 9223372036854775808 is not accepted"),
        ({"grain": "atoms"}, "'atoms' is unknown: channels and parts"),
        ({"profile": "slow"}, "'slow' is unknown: quick and paper"),
        ({"target": 0.7}, "target = 0.7"),
        ({"ranking": "acdc"}, "'acdc' is unknown: masks, eap, eap_ig, started"),
    ],
)
def test_what_cannot_be_searched_for_is_a_sentence(make_run, words, says):
    with pytest.raises(UserError, match=says):
        Search(run=make_run("dense"), **words)


def test_a_task_is_known_and_no_file_bears_its_name(make_run, tmp_path):
    search = Search(run=make_run("dense"))
    with pytest.raises(UserError, match=r"'for_whle' is unknown: all, a file of pairs"):
        search.write("for_whle")
    with pytest.raises(UserError, match="name of an attribution graph"):
        search.write(str(written(tmp_path / "not_in.graph.jsonl", PAIRS)))
    file = written(tmp_path / "for_while.jsonl", PAIRS)
    with pytest.raises(UserError, match="has the name of a task of the table"):
        search.write(str(file))


def test_the_command_writes_circuits_and_the_report(tmp_path, task, capsys):
    size = "data=generated data.n_documents=120 data.vocab_size=300 d_model=16 context=32"
    size += " attention.n_heads=2 mlp.width=64 mlp.k=4 train.steps=4 train.eval_tokens=512"
    folder = tmp_path / "run"
    assert train(run_config(["tiny", *size.split(), "train.device=cpu"]), folder) == 0
    command = ["circuit", str(folder), "--task", str(task), "--target", "0.69", "--no-controls"]
    capsys.readouterr()
    assert cli.main(command) == EXIT_USER
    assert "--force" in capsys.readouterr().err
    more = ["--grain", "parts", "--seed", "2", "--ranking", "eap_ig"]
    assert cli.main([*command, "--force", *more]) == 0
    out = capsys.readouterr().out
    content = json.loads((folder / "circuits" / "own.json").read_text())
    assert content["seed"] == 2 and content["grain"] == "parts"
    assert content["ranking"] == "eap_ig"
    assert f"{content['sizes']['nodes']} of {content['candidates']} nodes" in out
    assert f"report: {folder / 'report.html'}" in out
    assert cli.main(["circuit", str(folder), "--weight", "blocks.0.mlp.w_enc:3,5"]) == 0
    usual = ["--target", "0.15", "--step", "4"]
    assert cli.main(["circuit", str(folder), "--weight", "blocks.0.mlp.w_enc:3,5", *usual]) == 0
    assert "without it a token costs" in capsys.readouterr().out
    assert cli.main([*command, "--weight", "blocks.0.mlp.w_enc:3,5"]) == EXIT_USER
    assert "either --task T or --weight W" in capsys.readouterr().err
    # Of the table's tasks this model can do none, or their prompts are longer than its context.
    assert cli.main(["circuit", str(folder), "--task", "all", "--target", "0.05"]) == EXIT_USER
    out, err = capsys.readouterr()
    assert out.count("passed over: ") == 30 and "none of the 30 tasks has a circuit" in err


def test_all_tasks_are_searched_and_their_sizes_told_in_the_mean(
    folder, task, tmp_path, monkeypatch, capsys
):
    run = Path(shutil.copytree(folder, tmp_path / "copy"))
    lonely, more = (
        written(tmp_path / f"{n}.jsonl", p) for n, p in (("lonely", PAIRS[:1]), ("more", PAIRS[1:]))
    )
    tasks = dict.fromkeys(map(str, (task, lonely, more)))
    monkeypatch.setattr("pellucid.eval.tasks.TASKS", tasks)
    command = ["circuit", str(run), "--task", "all", "--target", "0.69", "--force"]
    assert cli.main([*command, "--grain", "parts", "--no-controls", "--edges"]) == 0
    out = capsys.readouterr().out
    found = [
        json.loads((run / "circuits" / f"{name}.json").read_text()) for name in ("own", "more")
    ]
    assert len(list((run / "circuits").glob("*.contexts.json"))) == 2
    assert out.count("passed over: ") == out.count("holds one pair") == 1
    own, other = (max(each["sizes"]["nodes"], 1) for each in found)
    mean = f"2 of 3 tasks, in the geometric mean: {(own * other) ** 0.5:.1f} nodes, "
    assert mean in out and f"report: {run / 'report.html'}" in out
    for each in found:
        assert f"; {len(each['edges'])} edges after pruning" in out and not each["censored"]


def test_sizes_over_tasks_are_geometric_means_and_say_how_many_are_the_whole_model():
    made = [
        {
            "sizes": {"nodes": nodes, "bits": 2 * nodes},
            "accuracy": {"model": 1.0, "model_unseen": 1.0},
            "censored": nodes == 16,
            "faithful": {"nodes": 5 * nodes, "bits": 9 * nodes, "censored": False, "worst": "mean"},
        }
        for nodes in (4, 16)
    ]
    found = "8.0 nodes, 16 bits, 1 of them censored"
    proven = "faithful size 40.0 nodes, 72 bits, 0 of them censored"
    assert mean_sizes(made) == f"{proven}; found {found}"
    del made[1]["faithful"]
    assert mean_sizes(made) == found


def test_a_faithful_size_says_when_its_bits_are_those_of_the_whole_model():
    found = {"nodes": 7, "bits": 9.0, "censored": False, "capped": False, "fresh": {"loss": None}}
    assert faithful_size(found) == "7 nodes"
    found |= {"capped": True, "fresh": {"loss": 0.25}}
    fresh = "(0.250 nats on fresh pairs at worst)"
    assert faithful_size(found) == f"7 nodes, about as many bits as the whole model {fresh}"
    assert faithful_size(found | {"censored": True}) == f"none {fresh}"
