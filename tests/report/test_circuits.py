"""Circuits of a run: what is read, where it stands, and the files that are written beside them."""

import json
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from pellucid.errors import RunError
from pellucid.report import write_report
from pellucid.report.circuit.curves import curves
from pellucid.report.circuit.drawing import SHOWN_EDGES, to_svg
from pellucid.report.circuit.graph import attribution_graph
from pellucid.report.circuit.layout import DRAWN_EDGES, DRAWN_NODES, lay_out, step
from pellucid.report.circuit.positions import lay_out_by_position
from pellucid.report.circuit.reading import parse
from pellucid.report.circuit.section import shown_circuits

SVG = "{http://www.w3.org/2000/svg}"
NUMBER, WHOLE, TEXT, ANY = (int, float), (int,), (str,), (int, float, str, type(None))
METADATA = {"slug": TEXT, "scan": TEXT, "prompt_tokens": (list,), "prompt": TEXT}
NODE = {"node_id": TEXT, "feature": (int, type(None)), "layer": (str, int), "ctx_idx": WHOLE}
NODE |= {"feature_type": TEXT, "jsNodeId": TEXT, "clerp": TEXT}
OPTIONAL = {"influence": (int, float, type(None)), "activation": (int, float, type(None))}
LINK = {"source": TEXT, "target": TEXT, "weight": NUMBER}


@pytest.fixture
def tiny():
    """Two layers, three static edges, and a channel that both layers use."""
    nodes = [
        {"id": "blocks.0.mlp_in:4", "kind": "read", "layer": 0, "effect": 0.1, "values": [0, 2]},
        {"id": "blocks.0.mlp:7", "kind": "neuron", "layer": 0, "effect": 0.3, "base": 5.0}
        | {"values": [5.5, 1.0], "writes": [[")", 2.0], ["<b>", 1.0]]},
        {"id": "blocks.0.mlp_out:4", "kind": "write", "layer": 0, "effect": 0.0},
        {"id": "blocks.1.attn_in:4", "kind": "read", "layer": 1, "effect": -0.6},
        {"id": "blocks.1.attention.v:0", "kind": "value", "layer": 1, "effect": None},
    ]
    ids = [node["id"] for node in nodes]
    weights = [(0, 1, 0.5), (1, 2, -2.0), (3, 4, None)]
    edges = [
        {"source": ids[a], "target": ids[b], "weight": w, "effect": None} for a, b, w in weights
    ]
    example = {"tokens": ["<s>", "("], "answer": ")", "other": "]", "margin": 2.0}
    return {"format": 1, "task": "brackets", "nodes": nodes, "edges": edges, "example": example}


def at(layout, name):
    """Place of a node in a layout."""
    number = [node.id for node in layout.nodes].index(name)
    return layout.x[number], layout.y[number]


def test_layers_go_up_and_kinds_go_right(tiny):
    layout = lay_out(parse("brackets", tiny))
    read, neuron, write = (at(layout, f"blocks.0.{n}") for n in ("mlp_in:4", "mlp:7", "mlp_out:4"))
    assert read[0] < neuron[0] < write[0]
    assert read[1] == neuron[1] == write[1] > at(layout, "blocks.1.attn_in:4")[1]
    assert at(layout, "blocks.1.attention.v:0")[0] < read[0]
    assert [row.title for row in layout.rows] == ["Layer 1", "Layer 0"]


def test_edges_are_ranked_by_weight_and_the_stream_joins_what_shares_a_channel(tiny):
    layout = lay_out(parse("brackets", tiny))
    names = [node.id for node in layout.nodes]
    assert [edge.weight for edge in layout.edges] == [-2.0, 0.5, None]
    assert names[layout.edges[0].source] == "blocks.0.mlp:7"
    joined = [(names[i], names[j]) for i, j in layout.stream]
    assert joined == [("blocks.0.mlp_out:4", "blocks.1.attn_in:4")]


def column_of(layout, name):
    """Token of the column beneath whose middle a node stands nearest."""
    x, _ = at(layout, name)
    inside = [c for c in layout.columns if c.x <= x <= c.x + c.width]
    assert len(inside) == 1
    return inside[0].token


def test_by_position_a_node_stands_at_the_token_where_it_departs_most(tiny):
    tiny["edges"].append({"source": "blocks.1.attention.v:0", "target": "logits", "effect": 1.0})
    layout = lay_out_by_position(parse("brackets", tiny))
    # Values 0 and 2 against nothing; 5.5 and 1 against a base of 5; no values; and the logits.
    assert column_of(layout, "blocks.0.mlp_in:4") == column_of(layout, "blocks.0.mlp:7") == 1
    assert column_of(layout, "blocks.0.mlp_out:4") == -1 and column_of(layout, "logits") == 1
    assert [column.title for column in layout.columns] == ["no one token", "<s>", "("]
    # All edges go up, those between kinds of a layer too.
    assert all(layout.y[edge.source] > layout.y[edge.target] for edge in layout.edges)
    assert [title for title, _ in layout.rows[-1].lines] == ["Write", "Neuron", "Read"]
    drawn = ElementTree.fromstring(to_svg(parse("brackets", tiny), layout))
    heads = [text.text for text in drawn.findall(f".//{SVG}text[@data-token]")]
    assert heads == ["no one token", "<s>", "("]


def test_by_position_is_where_the_exported_graph_has_it(sample_circuits):
    file = parse("t", sample_circuits.circuit_file("t", nodes=64, edges=180))
    layout, graph = lay_out_by_position(file), attribution_graph(file, scan="run")
    placed = {n["clerp"].split(" ")[0]: n["ctx_idx"] for n in graph["nodes"]}
    assert {column_of(layout, node.id) - placed[node.id] for node in layout.nodes} == {0}


def test_without_values_on_a_prompt_there_are_no_positions(tiny):
    for node in tiny["nodes"]:
        node.pop("values", None)
    assert lay_out_by_position(parse("brackets", tiny)) is None
    assert shown_circuits([parse("brackets", tiny)])[0]["placed"] is None


def test_many_tokens_without_a_node_share_a_column(tiny):
    tiny["example"]["tokens"] = ["<s>", "(", *(f" w{i}" for i in range(200))]
    tiny["nodes"][0]["values"] = [0] * 101 + [3]
    layout = lay_out_by_position(parse("brackets", tiny))
    titles = [column.title for column in layout.columns]
    assert titles == ["no one token", "<s>", "(", "… 99 more", "·w99", "… 100 more"]
    assert column_of(layout, "blocks.0.mlp_in:4") == 101 and layout.width == 820


@pytest.mark.parametrize("lay", [lay_out, lay_out_by_position])
@pytest.mark.parametrize(("nodes", "layers"), [(64, 4), (500, 6), (500, 1)])
def test_no_chip_covers_another_and_all_stand_inside(sample_circuits, nodes, layers, lay):
    made = sample_circuits.circuit_file("t", nodes=nodes, edges=2000, layers=layers)
    layout = lay(parse("t", made))
    places = sorted(zip(layout.y, layout.x, strict=True))
    for (y0, x0), (y1, x1) in pairwise(places):
        assert y1 - y0 >= 1 or x1 - x0 >= layout.chip
    lines = sorted(set(layout.y))
    by_cell = {}
    for node, x, y in zip(layout.nodes, layout.x, layout.y, strict=True):
        by_cell.setdefault((node.layer, node.group), []).append((x, y))
        assert layout.chip / 2 <= x <= layout.width - layout.chip / 2
    for cell in by_cell.values():
        ys = sorted({y for _, y in cell})
        assert all(b - a >= 18 for a, b in pairwise(ys))
    assert lines[0] > 60 and lines[-1] < layout.height - 20


def test_a_circuit_of_full_size_is_drawn_by_its_strongest(sample_circuits):
    made = sample_circuits.circuit_file("t", nodes=900, edges=5000, layers=8)
    file = parse("t", made)
    layout = lay_out(file)
    assert (len(layout.nodes), len(layout.edges) <= DRAWN_EDGES) == (DRAWN_NODES, True)
    drawn = {node.id for node in layout.nodes}
    weakest = min(node.effect for node in layout.nodes)
    assert all(n.effect <= weakest for n in file.nodes if n.id not in drawn)
    assert f"{DRAWN_NODES} nodes of the largest effect of 900" in shown_circuits([file])[0]["cut"]


def test_the_drawing_is_a_picture_of_its_own(sample_circuits):
    made = sample_circuits.circuit_file("t", nodes=500, edges=2000, layers=6)
    text = to_svg(parse("t", made), lay_out(parse("t", made)))
    root = ElementTree.fromstring(text)
    chips = root.findall(f".//{SVG}g[@data-node]")
    assert len(chips) == 500
    assert len(root.findall(f".//{SVG}path[@data-rank]")) == SHOWN_EDGES
    assert "var(" not in text and "<script" not in text
    assert "The 250 strongest of 2,000 edges." in "".join(root.itertext())


def test_planted_text_stays_text_in_the_drawing(sample_circuits):
    file = parse("planted", sample_circuits.sample_circuits()["planted"])
    text = to_svg(file, lay_out(file))
    ElementTree.fromstring(text)
    assert "<img" not in text and "\x00" not in text and "\u202e" not in text
    assert r"\u0000\u202e&lt;/script&gt;" in text


def checked(value, fields, optional=()):
    """Raise where an object lacks a field of the published schema, or has one of another type."""
    for name, types in fields.items():
        assert isinstance(value[name], types) and not isinstance(value[name], bool), (name, value)
    for name, types in dict(optional).items():
        assert isinstance(value.get(name), types), (name, value)


@pytest.mark.parametrize("name", ["bracket_kind", "planted"])
def test_the_graph_keeps_to_the_published_schema_and_to_what_its_viewer_reads(
    sample_circuits, name
):
    graph = attribution_graph(parse(name, sample_circuits.sample_circuits()[name]), scan="run")
    graph = json.loads(json.dumps(graph, allow_nan=False))
    checked(graph["metadata"], METADATA)
    assert set(graph) == {"metadata", "qParams", "nodes", "links"}
    nodes, links = graph["nodes"], graph["links"]
    for node in nodes:
        checked(node, NODE, OPTIONAL)
    for link in links:
        checked(link, LINK)
    ids = [node["node_id"] for node in nodes]
    assert len(set(ids)) == len(ids)
    assert {end for link in links for end in (link["source"], link["target"])} <= set(ids)
    # The viewer tells nodes apart by these three, and positions by the tokens of the prompt.
    assert len({(n["layer"], n["feature"], n["ctx_idx"]) for n in nodes}) == len(nodes)
    assert all(0 <= n["ctx_idx"] < len(graph["metadata"]["prompt_tokens"]) for n in nodes)
    # It fails where no layer is above 0, and takes the probability of an answer from its label.
    layers = [int(n["layer"]) for n in nodes if n["feature_type"] not in ("logit", "embedding")]
    assert min(layers) >= 1
    answers = [n for n in nodes if n["feature_type"] == "logit"]
    told = [float(n["clerp"].split("(p=")[1].split(")")[0]) for n in answers]
    assert told == pytest.approx([n["token_prob"] for n in answers], abs=6e-4)
    assert sum(told) == pytest.approx(1, abs=2e-3)
    assert not any(set("<>") & set(n["clerp"]) for n in nodes)


def test_links_of_the_graph_go_forward_and_carry_what_the_file_says(tiny):
    graph = attribution_graph(parse("brackets", tiny), scan="run")
    by_label = {n["clerp"].split(" ")[0]: n for n in graph["nodes"]}
    layer = {n["node_id"]: n["layer"] for n in graph["nodes"]}
    neuron, write = by_label["blocks.0.mlp:7"], by_label["blocks.0.mlp_out:4"]
    # It stands where it departs most from its base of 5, not where it is largest.
    assert (neuron["ctx_idx"], neuron["activation"]) == (1, 1.0)
    weights = {(link["source"], link["target"]): link["weight"] for link in graph["links"]}
    assert weights[neuron["node_id"], write["node_id"]] == -2.0
    assert weights[write["node_id"], by_label["blocks.1.attn_in:4"]["node_id"]] == 1.0
    answer = next(n for n in graph["nodes"] if n["is_target_logit"])
    assert answer["token_prob"] == pytest.approx(1 / (1 + 2.718281828**-2))
    assert weights[neuron["node_id"], answer["node_id"]] == 2.0
    assert len(weights) == 4
    assert all(int(layer[s]) < int(layer[t]) for s, t in weights)
    # Cumulated shares of effects 0.6, 0.3, 0.1: the strongest node has the least.
    assert by_label["blocks.1.attn_in:4"]["influence"] == pytest.approx(0.6)
    assert neuron["influence"] == pytest.approx(0.9)
    assert graph["metadata"]["node_threshold"] == 1.0


def test_the_viewer_finds_layer_and_number_in_a_feature(tiny):
    graph = attribution_graph(parse("brackets", tiny), scan="run")
    for node in graph["nodes"]:
        if node["feature_type"] == "cross layer transcoder":
            w = int(((8 * node["feature"] + 1) ** 0.5 - 1) // 2)
            index = node["feature"] - w * (w + 1) // 2
            assert f"{w - index}_{index}_{node['ctx_idx']}" == node["node_id"]


def test_a_file_with_nothing_but_nodes_has_a_place_on_the_page(sample_run, sample_circuits, tiny):
    bare = {"format": 1, "task": "bare", "nodes": tiny["nodes"]}
    empty = {"format": 1, "task": "empty", "nodes": [], "edges": []}
    sample_circuits.write_circuits(sample_run.path, bare=bare, empty=empty)
    html = write_report(sample_run).read_text()
    assert "Not measured: the battery was not run." in html
    graph = json.loads((sample_run.path / "circuits" / "bare.graph.json").read_text())
    assert graph["metadata"]["prompt_tokens"] == []
    ElementTree.parse(sample_run.path / "circuits" / "empty.svg")


def test_the_headline_is_the_faithful_size(sample_run, sample_circuits):
    sample_circuits.write_circuits(sample_run.path, **sample_circuits.sample_circuits())
    html = write_report(sample_run).read_text()
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))
    assert "Faithful size of bracket kind 80 of 7,168 nodes · 704 bits" in words
    fresh = "On fresh pairs, by which no size was chosen, the loss is at worst 0.171 nats"
    assert f"Worst case: resample. {fresh} (half complements), above the target." in words
    assert "The circuit found is 0.21 of the size that" in words
    assert words.count("On fresh pairs") == 1  # the other circuit has none
    assert "No smaller circuit stays within the target" in words
    assert "10 of 11 controls passed" in words
    capped = "About as many bits as the whole model"
    assert capped not in words
    made = sample_circuits.sample_circuits()
    next(iter(made.values()))["faithful"]["capped"] = True
    sample_circuits.write_circuits(sample_run.path, **made)
    assert write_report(sample_run).read_text().count(capped) == 1


def test_the_points_of_a_control_are_a_curve_beside_the_most_that_passes(sample_circuits):
    made = sample_circuits.circuit_file("t", nodes=20, edges=20)
    (told,) = shown_circuits([parse("t", made)])
    by_size, exchanged, relaxed = told["curves"]
    assert relaxed["ends"] == ["1 %", "100 % of the other nodes"]
    assert relaxed["level"] == "up to 0.204 passes"
    # From 0 nats, 110 down, to the highest point; 0.01, 0.1 and 1 are evenly spaced over 260.
    drawn = relaxed["drawn"]
    assert drawn["level"] == round(110 * (1 - 0.204 / 0.534), 1)
    spots = [tuple(map(float, spot.split(","))) for spot in drawn["line"].split()]
    assert [spots[i][0] for i in (0, 2, 4)] == [0.0, 130.0, 260.0]
    assert [y for _, y in spots] == [
        round(110 * (1 - y / 0.534), 1) for _, y in sample_circuits.CURVES["relaxation"]
    ]
    assert [mark["says"] for mark in drawn["marks"]][-1] == "0.534"
    assert exchanged["ends"] == ["25 %", "100 % of its nodes"]
    assert by_size["ends"] == ["8", "7,168 nodes"] and by_size["aside"] == "CPR 0.81 · CMD 0.07"
    # The margin comes up to a little more than the model's own; that of the model is 1.
    top = max(y for _, y in made["mib"]["points"])
    assert by_size["drawn"]["level"] == round(110 * (1 - 1 / max(1, top)), 1)


def test_points_that_are_none_are_not_drawn():
    odd = [{"name": "relaxation", "points": points} for points in (None, "x", [[0, 1]], [["a", 1]])]
    odd += [{"name": ["relaxation"], "points": [[0.1, 0.2], [1, 0.3]]}]
    odd += [{"name": "necessity", "points": [[0.1, 0.2], [1, 0.3]]}]
    assert curves({}, odd) == []
    (one,) = curves({}, [{"name": "relaxation", "points": [[0.5, 0.3], [0.5, 0.4]]}])
    assert one["drawn"] is None
    (flat,) = curves({}, [{"name": "relaxation", "points": [[0.1, 0], [1, 0]], "most": None}])
    assert flat["drawn"]["line"] == "0.0,110.0 260.0,110.0" and flat["drawn"]["level"] is None


def test_what_a_file_says_of_its_lists_stands_by_the_drawing(sample_circuits):
    made = sample_circuits.circuit_file("t", nodes=20, edges=20)
    made["reasons"] |= {"effect": "to first order", "static_edges": "no matrix"}
    made["losses"]["model_unseen"] = 0.5
    (told,) = shown_circuits([parse("t", made)])
    assert told["cut"] == "Effects: to first order."
    assert told["facts"][1]["note"] == "target 0.150 · whole model 0.500"
    assert [row["note"] for row in told["sizes"] if row["label"] == "Static edges"] == ["no matrix"]


def test_a_number_of_edges_that_leaves_out_a_part_of_the_model_says_so(sample_circuits):
    made = sample_circuits.circuit_file("t", nodes=20, edges=20)
    cards = []
    for reason in (
        "64 edges were left out one by one",
        "not counted: blocks.0: no edges are known",
    ):
        made["reasons"]["effect_edges"] = reason
        cards.append(shown_circuits([parse("t", made)])[0]["facts"][3]["note"])
    assert cards == ["edges with an effect", "edges with an effect, of a part of the model"]


def test_exports_are_not_taken_for_circuits_and_stay_the_same(sample_run, sample_circuits):
    sample_circuits.write_circuits(sample_run.path, **sample_circuits.sample_circuits())
    page = write_report(sample_run).read_bytes()
    folder = sample_run.path / "circuits"
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert set(first) == {
        f"{name}{ending}"
        for name in ("bracket_kind", "planted")
        for ending in (".json", ".svg", ".position.svg", ".graph.json")
    }
    assert write_report(sample_run).read_bytes() == page
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"brackets.json: format is 2; this version reads 1"),
        ({"nodes": {}}, r"brackets\.json: nodes is '\{\}'; a list is expected"),
        ({"nodes": [3]}, r"nodes\[0\] is '3'; an object is expected"),
        ({"nodes": [{"id": "mlp"}]}, r"nodes\[0\].id is 'mlp'; a name such as blocks.0.mlp:17"),
        ({"nodes": [{"id": "a:1", "kind": "x"}]}, r"nodes\[0\].kind is 'x'; one of read, "),
        ({"nodes": [{"id": "a:1", "kind": "head", "layer": "0"}]}, r"nodes\[0\].layer is '0'"),
        (
            {"nodes": [{"id": "a:1", "kind": "head", "layer": 0, "effect": "big"}]},
            r"nodes\[0\].effect is 'big'; a number or null",
        ),
        (
            {"nodes": [{"id": "a:1", "kind": "head", "layer": 0}] * 2, "edges": []},
            "nodes holds an id twice",
        ),
        ({"edges": [{"source": "a:1", "target": "b:2"}]}, r"edges\[0\].source is 'a:1'; the id of"),
        ({"edges": [{"source": "embed", "target": "b:2"}]}, r"edges\[0\].target is 'b:2'; the id"),
        ({"example": []}, r"example is '\[\]'; an object is expected"),
        ({"example": {"tokens": [1]}}, r"example.tokens\[0\] is '1'; a text is expected"),
        ({"strata": [3]}, r"strata\[0\] is '3'; an object is expected"),
        ({"battery": "all"}, r"battery is 'all'; a list is expected"),
    ],
)
def test_a_damaged_circuit_is_named_and_nothing_is_written(
    sample_run, sample_circuits, tiny, change, message
):
    before = write_report(sample_run).read_bytes()
    sample_circuits.write_circuits(sample_run.path, brackets=tiny | change)
    with pytest.raises(RunError, match=message):
        write_report(sample_run)
    assert (sample_run.path / "report.html").read_bytes() == before
    assert [file.name for file in (sample_run.path / "circuits").iterdir()] == ["brackets.json"]


CONTEXT = {"band": "top", "document": 0, "tokens": [3], "values": [1.0], "center": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"t\.contexts\.json: format is 2; this version reads 1"),
        ({"nodes": []}, r"t\.contexts\.json: nodes is '\[\]'; an object is expected"),
        ({"vocab": {"3": 1}}, r"vocab\[3\] is '1'; a text is expected"),
        ({"part": 1}, r"nodes\[a:1\]\.part is '1'; a text is expected"),
        ({"band": "x"}, r"contexts is .*; an object whose band is one of top, p90"),
        ({"tokens": [4]}, r"contexts\.tokens is '4'; a token of its vocab is expected"),
        ({"values": []}, r"contexts\.values is '\[\]'; 1 numbers, one for each token, is expected"),
        ({"values": ["x"]}, r"contexts\.values is 'x'; a number or null is expected"),
        ({"center": 1}, r"contexts\.center is '1'; a number from 0 to 0 is expected"),
        ({"document": 1}, r"contexts\.document is '1'; a number from 0 to 0 is expected"),
    ],
)
def test_damaged_contexts_are_named(sample_run, sample_circuits, change, message):
    context = CONTEXT | {key: change[key] for key in CONTEXT if key in change}
    part = {"part": change.get("part", ""), "signed": False, "contexts": [context]}
    whole = {"format": 1, "vocab": {"3": "x"}, "documents": ["a.py"], "nodes": {"a:1": [part]}}
    whole |= {key: change[key] for key in whole if key in change}
    circuit = {"format": 1, "task": "t", "nodes": [], "edges": []}
    sample_circuits.write_circuits(sample_run.path, t=circuit, **{"t.contexts": whole})
    with pytest.raises(RunError, match=message):
        write_report(sample_run)


def test_steps_follow_the_pass(tiny):
    steps = [step(node) for node in parse("brackets", tiny).nodes]
    assert steps == sorted(steps) and len(set(steps)) == 5
