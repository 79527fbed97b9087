"""A circuit as an attribution graph: the JSON that Neuronpedia's circuit viewer loads.

Its schema: hijohnnylin/neuronpedia, `graph-schema.json`; its identifiers are those of
safety-research/circuit-tracer. A circuit's nodes are shared by all positions while such a graph has
one for each: a node stands here at the token of the shown example where it departs most from what
it is held at when it is left out.
"""

import math
from typing import Any

from pellucid.report.circuit.checked import finite
from pellucid.report.circuit.layout import Layout, lay_out, step
from pellucid.report.circuit.reading import CircuitFile, Node
from pellucid.report.wording import number

ABOUT = (
    "A circuit found by pruning with Pellucid. Each row is one group of nodes in the order of the "
    "pass, two nodes of a row never feeding each other. A node stands at the token where it "
    "departs most from its base. Links between nodes carry weights of the model; a link of weight 1 "
    "is a channel of the residual stream that one layer writes and a later one reads; links to an "
    "answer carry the logit that the node writes of it. Edges of the embedding and the logits as "
    "wholes, which the circuit's own file may list, are of no one token and not shown here. "
    "Influence is the share of the effects of ablation that a node and all stronger ones make up."
)


def attribution_graph(circuit: CircuitFile, *, scan: str) -> dict[str, Any]:
    """The graph of a circuit; `scan` names the model."""
    circuit = circuit.inner()
    layout = lay_out(circuit)
    rows = _rows(layout)
    nodes = [_feature(node, rows, len(circuit.tokens)) for node in layout.nodes]
    influence = _influences(layout)
    for node, share in zip(nodes, influence, strict=True):
        node["influence"] = share
    answers, answer_links = _answers(circuit, layout, nodes, len(rows))
    links = [
        {"source": nodes[e.source]["node_id"], "target": nodes[e.target]["node_id"], "weight": w}
        for e in layout.edges
        if (w := e.weight if e.weight is not None else e.effect) is not None
        and step(layout.nodes[e.source]) < step(layout.nodes[e.target])
    ]
    stream = [
        {"source": nodes[i]["node_id"], "target": nodes[j]["node_id"], "weight": 1.0}
        for i, j in layout.stream
    ]
    return {
        "metadata": _metadata(circuit, scan, any(share is not None for share in influence)),
        "qParams": {
            "linkType": "both",
            "pinnedIds": [],
            "clickedId": "",
            "supernodes": [],
            "sg_pos": "",
        },
        "nodes": [*_embeddings(circuit), *nodes, *answers],
        "links": links + stream + answer_links,
    }


def _metadata(circuit: CircuitFile, scan: str, influenced: bool) -> dict[str, Any]:
    found = {
        "slug": circuit.slug,
        "scan": scan,
        "transcoder_list": [],
        "prompt_tokens": list(circuit.tokens),
        "prompt": "".join(circuit.tokens),
        "schema_version": 1,
        "info": {"description": ABOUT, "generator": {"name": "Pellucid"}},
        "pruning_settings": {
            key: circuit.content[key]
            for key in (
                "ablation",
                "target",
                "profile",
                "grain",
                "distance",
                "frozen_norm",
                "seed",
                "step",
            )
            if isinstance(circuit.content.get(key), str | int | float)
        },
    }
    # With a threshold the viewer offers a slider over influence; 1 shows every node at first.
    return found | ({"node_threshold": 1.0} if influenced else {})


def _rows(layout: Layout) -> dict[str, int]:
    """The viewer's layer of each group of nodes. It counts from 1: a graph whose last is 0 fails."""
    groups: dict[str, tuple[int, int]] = {node.group: step(node) for node in layout.nodes}
    ordered = sorted(groups, key=lambda group: (groups[group], group))
    return {group: i for i, group in enumerate(ordered, start=1)}


def _feature(node: Node, rows: dict[str, int], tokens: int) -> dict[str, Any]:
    row, values = rows[node.group], node.values[:tokens]
    at = node.peak(tokens) or 0
    return {
        "node_id": f"{row}_{node.index}_{at}",
        "feature": _paired(row, node.index),
        "layer": str(row),
        "ctx_idx": at,
        "feature_type": "cross layer transcoder",
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": f"{row}_{node.index}-0",
        "clerp": _plain(_label(node)),
        "influence": None,
        "activation": values[at] if values else None,
    }


def _label(node: Node) -> str:
    told = f"{node.id} ({node.kind.replace('_', ' and ')})"
    if node.effect is not None:
        told += f", effect {number(node.effect, 3)} nats"
    tops = ", ".join(repr(token) for token, _ in node.writes[:3])
    return f"{told}, writes {tops}" if tops else told


def _embeddings(circuit: CircuitFile) -> list[dict[str, Any]]:
    return [
        {
            "node_id": f"E_{i}_{i}",
            "feature": i,
            "layer": "E",
            "ctx_idx": i,
            "feature_type": "embedding",
            "token_prob": 0.0,
            "is_target_logit": False,
            "run_idx": 0,
            "reverse_ctx_idx": 0,
            "jsNodeId": f"E_{i}-{i}",
            "clerp": _plain(f"Emb: {token!r}"),
            "influence": None,
            "activation": None,
        }
        for i, token in enumerate(circuit.tokens)
    ]


def _answers(
    circuit: CircuitFile, layout: Layout, nodes: list[dict[str, Any]], rows: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The two answers, likely as the margin says of the two alone, and what writes them."""
    example = circuit.part("example")
    margin = finite(example.get("margin"))
    texts = [text for key in ("answer", "other") if isinstance(text := example.get(key), str)]
    if margin is None or not texts or not circuit.tokens:
        return [], []
    found, links = [], []
    for i, text in enumerate(texts):
        answer = _answer(i, text, rows + 1, len(circuit.tokens) - 1, margin if i == 0 else -margin)
        found.append(answer)
        links += [
            {"source": held["node_id"], "target": answer["node_id"], "weight": logit}
            for node, held in zip(layout.nodes, nodes, strict=True)
            for token, logit in node.writes
            if token == text
        ]
    return found, links


def _answer(i: int, text: str, row: int, at: int, margin: float) -> dict[str, Any]:
    p = 0.5 * (1 + math.tanh(margin / 2))
    return {
        "node_id": f"{row}_{i}_{at}",
        "feature": i,
        "layer": str(row),
        "ctx_idx": at,
        "feature_type": "logit",
        "token_prob": p,
        "is_target_logit": i == 0,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": f"L_{i}-{at}",
        # The viewer reads the probability from between these very signs.
        "clerp": _plain(f'Output "{text}" (p={p:.3f})'),
        "influence": None,
        "activation": None,
    }


def _influences(layout: Layout) -> list[float | None]:
    """Cumulated share of the effects, strongest first; None throughout where none is known."""
    effects = [abs(node.effect or 0.0) for node in layout.nodes]
    total = sum(effects)
    if not total:
        return [None] * len(effects)
    found: list[float | None] = [None] * len(effects)
    so_far = 0.0
    for i in sorted(range(len(effects)), key=lambda i: -effects[i]):
        so_far += effects[i]
        found[i] = min(1.0, so_far / total)
    return found


def _paired(x: int, y: int) -> int:
    """Cantor's pairing, by which the viewer finds a feature's layer and number."""
    return (x + y) * (x + y + 1) // 2 + y


def _plain(text: str) -> str:
    """Without angle brackets: the viewer sets labels as markup."""
    return text.replace("<", "‹").replace(">", "›")
