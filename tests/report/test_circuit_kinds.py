"""Circuit files that are more than a task's nodes: ends of edges, distances, earlier steps."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from pellucid.report import write_report
from pellucid.report.circuit.drawing import to_svg
from pellucid.report.circuit.graph import attribution_graph
from pellucid.report.circuit.layout import lay_out
from pellucid.report.circuit.reading import parse
from pellucid.report.circuit.section import shown_circuits

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def parts():
    """Two neurons, with edges from the embedding, between them and to the logits."""
    nodes = [
        {"id": f"blocks.{layer}.mlp:{unit}", "kind": "neuron", "layer": layer, "effect": 0.1}
        for layer, unit in ((0, 7), (1, 9))
    ]
    first, second = (node["id"] for node in nodes)
    ends = [("embed", first, 0.5), (first, second, 0.2), (second, "logits", -0.3)]
    ends.append(("embed", "logits", 0.4))
    edges = [{"source": s, "target": t, "weight": None, "effect": effect} for s, t, effect in ends]
    edges[1]["through"] = "k"
    return {"format": 1, "task": "parts", "nodes": nodes, "edges": edges}


def test_the_embedding_and_the_logits_are_drawn_as_ends_of_edges(parts):
    file = parse("parts", parts)
    layout = lay_out(file)
    names = [node.id for node in layout.nodes]
    assert len(file.nodes) == 2 and names == ["embed", *(n.id for n in file.nodes), "logits"]
    assert [row.title for row in layout.rows] == ["Output", "Layer 1", "Layer 0", "Input"]
    assert list(layout.y) == sorted(layout.y, reverse=True)
    drawn = [(names[e.source], names[e.target], e.effect) for e in layout.edges]
    assert drawn[:2] == [("embed", names[1], 0.5), ("embed", "logits", 0.4)] and len(drawn) == 4
    root = ElementTree.fromstring(to_svg(file, layout))
    assert root.attrib["aria-label"] == "Circuit of parts, 2 nodes"
    marks = [chip.findall(f"{SVG}text")[0].text for chip in root.findall(f".//{SVG}g[@data-node]")]
    assert marks == ["E", "7", "9", "L"]
    says = [line.text for line in root.findall(f".//{SVG}path[@data-rank]/{SVG}title")]
    assert "embed to blocks.0.mlp:7, effect 0.50" in says
    assert "blocks.0.mlp:7 to blocks.1.mlp:9 by k, effect 0.20" in says
    assert shown_circuits([file])[0]["cut"] == ""


def test_the_graph_lists_no_edge_of_the_embedding_as_a_whole(parts):
    graph = attribution_graph(parse("parts", parts), scan="run")
    features = [n for n in graph["nodes"] if n["feature_type"] == "cross layer transcoder"]
    assert len(features) == 2
    assert [link["weight"] for link in graph["links"]] == [0.2]


def test_distances_and_earlier_steps_are_told_apart_and_the_newest_comes_first(
    sample_run, sample_circuits
):
    made = sample_circuits.circuit_file("not_in", nodes=8, edges=8)
    names = ["not_in.step1000", "not_in.step500", "not_in@32.step500", "not_in@8", "not_in", "a"]
    files = {name: made | {"task": name.split("@")[0].split(".")[0]} for name in names}
    sample_circuits.write_circuits(sample_run.path, **files)
    html = write_report(sample_run).read_text()
    listed = re.findall(r'class="circuit-open" data-circuit="([^"]+)"[^>]*>([^<]+)<', html)
    assert listed == [
        ("a", "a"),
        ("not_in", "not in"),
        ("not_in.step500", "not in · step 500"),
        ("not_in.step1000", "not in · step 1,000"),
        ("not_in@8", "not in · distance 8"),
        ("not_in@32.step500", "not in · distance 32 · step 500"),
    ]
    # The page opens the first article; its data are in the same order.
    assert re.findall(r'<article class="circuit" data-circuit="([^"]+)"', html) == [
        slug for slug, _ in listed
    ]
    drawing = (sample_run.path / "circuits" / "not_in@32.step500.svg").read_text()
    assert ">not_in@32.step500</text>" in drawing


def test_losses_by_distance_and_held_norms_stand_on_the_page(sample_run, sample_circuits):
    made = sample_circuits.circuit_file("var_if", nodes=8, edges=8) | {"frozen_norm": True}
    made["strata"] = [
        {"distance": 0, "model": 0.0211, "circuit": 0.1422, "reason": None},
        {"distance": 32, "model": 0.0833, "circuit": 0.6544, "reason": None},
        {"distance": 128, "model": None, "circuit": None, "reason": "<b>too long"},
    ]
    sample_circuits.write_circuits(sample_run.path, var_if=made)
    html = write_report(sample_run).read_text()
    assert "&lt;b&gt;too long" in html and "norms held" in html
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    assert "Loss by distance on unseen pairs" in words
    assert "few 0.142 0.021" in words and "at least 32 0.654 0.083" in words
