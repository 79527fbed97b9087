"""Made-up circuit files in the form that `pellucid circuit` writes."""

import json
import math
import random
from pathlib import Path

HOSTILE = "</script><img src=x onerror=\"alert('planted')\">"
PARTS = {
    "attn_in": "read",
    "attention.qk": "query_key",
    "attention.v": "value",
    "attn_out": "write",
    "mlp_in": "read",
    "mlp": "neuron",
    "mlp_out": "write",
}
FEEDS = [
    ("attn_in", "attention.qk"),
    ("attn_in", "attention.v"),
    ("attention.v", "attn_out"),
    ("mlp_in", "mlp"),
    ("mlp", "mlp_out"),
]
SHARES = {"attn_in": 3, "attention.qk": 2, "attention.v": 2, "attn_out": 3} | {
    "mlp_in": 4,
    "mlp": 6,
    "mlp_out": 4,
}
TOKENS = ["\n", "for", " name", ",", " size", " in", " zip", "(", "names", ",", " sizes", ")", ":"]
TOKENS += ["\n    ", "print", "(", "f", '"', "{", "name", "}", '"']
BATTERY = [
    ("nonsense_mapping", 4.8, "times larger", True, "the same pruning on a mapping of no sense"),
    ("swapped_labels", 0.71, "nats", True, "loss of the circuit when its answers are swapped"),
    ("random_twin", 3.1, "times larger", True, "an untrained model of the same sparsity"),
    ("permuted_weights", 2.6, "times larger", True, "the same weights in another order"),
    ("random_circuits", 0.69, "nats", True, "best of 32 random circuits of this size"),
    ("seed_overlap", 0.83, "Jaccard", True, "nodes that another seed finds as well"),
    ("frozen_norm", 0.121, "nats", True, "every norm's scale held at that of the whole model"),
    ("resample", 0.149, "nats", True, "left-out nodes at what they do on another prompt"),
    ("interchange", 0.197, "nats", True, "its nodes at what they do in the model, at the worst"),
    ("necessity", 0.66, "nats", True, "the whole model with this circuit ablated"),
    ("relaxation", 0.534, "nats", False, "the rest of the model acting again, at the worst"),
]
CURVES = {
    "relaxation": [[0.01, 0.147], [0.0316, 0.152], [0.1, 0.213], [0.316, 0.388], [1.0, 0.534]],
    "interchange": [[0.25, 0.149], [0.5, 0.161], [0.75, 0.197], [1.0, 0.188]],
}


def circuit_file(task: str, *, nodes: int, edges: int, layers: int = 4, seed: int = 0) -> dict:
    """Content of a circuit file with so many nodes, and up to so many edges."""
    rng = random.Random(seed)
    made = _nodes(rng, nodes, layers)
    links = _edges(rng, made, edges)
    return {
        "format": 1,
        "task": task,
        "cue": "which name closes what was opened",
        "step": 2000,
        "profile": "quick",
        "seed": seed,
        "grain": "channels",
        "ablation": "mean",
        "target": 0.15,
        "censored": False,
        "candidates": 7168,
        "losses": {"model": 0.021, "circuit": 0.138, "circuit_unseen": 0.146}
        | {"empty": 0.691, "chance": math.log(2)},
        "accuracy": {"model": 0.998, "circuit_unseen": 0.957},
        "readout": {"scale": 1.4, "shift": -0.1},
        "sizes": {"nodes": nodes, "bits": 9.1 * nodes, "static_edges": len(links)}
        | {"effect_edges": len(links) // 3, "dynamic_edges_per_token": 18.4, "pruned_edges": None},
        "reasons": {"pruned_edges": "edges are pruned with --edges only"},
        "faithful": {"nodes": nodes + nodes // 4, "bits": 11.0 * nodes, "worst": "resample"}
        | {"censored": False, "nonsense_ratio": 0.21}
        | {"fresh": {"loss": 0.171, "worst": "half_complements", "pairs": 64, "reason": None}},
        "nodes": made,
        "edges": links,
        "battery": [
            {"name": n, "value": v, "unit": u, "says": s, "passes": p, "reason": None}
            | {"points": CURVES.get(n), "most": 0.204 if n in CURVES else None}
            for n, v, u, p, s in BATTERY
        ]
        + [
            {"name": "half_complements", "value": None, "unit": "nats", "passes": None}
            | {"says": "", "reason": "the circuit is the whole model"}
        ],
        "mib": {"cpr": 0.81, "cmd": 0.07, "points": _curve()},
        "example": {"tokens": list(TOKENS), "answer": '")', "other": '"]', "margin": 3.21},
    }


def write_circuits(run: Path, **circuits: dict) -> None:
    """Put circuit files into a run folder."""
    (run / "circuits").mkdir(exist_ok=True)
    for name, content in circuits.items():
        (run / "circuits" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def contexts_file(circuit: dict) -> dict:
    """Content of the file of contexts beside a circuit: one of each band and value, but of heads."""
    bands = {"top": 2.0, "p90": 1.2, "p50": 0.6, "p10": 0.2, "silent": 0.0}
    contexts = [
        {
            "band": band,
            "document": 1,
            "center": 2,
            "tokens": [4, 0, 2, 4],
            "values": [0, -0.1, v, 0],
        }
        for band, v in bands.items()
    ]
    parts = {"query_key": ["q", "k"], "head": []}
    return {
        "format": 1,
        "step": 2000,
        "split": "val",
        "n_tokens": 16119,
        "documents": ["a.py", HOSTILE],
        "vocab": {"0": "for", "2": HOSTILE, "4": "\n"},
        "nodes": {
            node["id"]: [
                {"part": part, "signed": True, "contexts": contexts}
                for part in parts.get(node["kind"], [""])
            ]
            for node in circuit["nodes"]
        },
    }


def sample_circuits() -> dict[str, dict]:
    """Two circuits: one to look at, and a small one in which hostile text is planted."""
    planted = circuit_file("string_close", nodes=16, edges=30, layers=2, seed=3)
    planted["example"]["tokens"][3] = HOSTILE
    planted["example"]["other"] = "\x00\u202e" + HOSTILE
    planted["nodes"][0]["writes"] = [[HOSTILE, 1.5]]
    planted["battery"][0]["says"] = HOSTILE
    planted["cue"] = HOSTILE
    planted["faithful"] = {"nodes": 7168, "bits": 7168.0, "worst": "resample"}
    planted["faithful"] |= {"censored": True, "nonsense_ratio": None}
    return {"bracket_kind": circuit_file("bracket_kind", nodes=64, edges=180), "planted": planted}


def _curve() -> list[list[float]]:
    sizes = [8, 16, 32, 64, 128, 512, 2048, 7168]
    return [[k, round(1 - math.exp(-k / 40) * (1.1 - k / 80000), 4)] for k in sizes]


def _nodes(rng: random.Random, n: int, layers: int) -> list[dict]:
    places = [(layer, part) for layer in range(layers) for part in PARTS]
    weights = [SHARES[part] * (1 + layer) for layer, part in places]
    counts = dict.fromkeys(places, 0)
    for place in rng.choices(places, weights, k=n):
        counts[place] += 1
    found = []
    for (layer, part), count in counts.items():
        width = 512 if part == "mlp" else max(24, 2 * count)
        for index in sorted(rng.sample(range(width), min(count, width))):
            found.append(_node(rng, layer, part, index))
    return found


def _node(rng: random.Random, layer: int, part: str, index: int) -> dict:
    effect = round(0.4 * rng.random() ** 4, 4)
    values = [round(max(0.0, rng.gauss(-0.6, 1)), 3) for _ in TOKENS]
    base = round(sum(values) / len(values), 3)
    writes = [[token, round(2.4 / (i + 1), 3)] for i, token in enumerate(['")', "')", ")", "]"])]
    return {
        "id": f"blocks.{layer}.{part}:{index}",
        "kind": PARTS[part],
        "layer": layer,
        "effect": effect,
        "base": base,
        "values": values,
        "writes": writes if part in ("mlp", "mlp_out", "attn_out") else [],
    }


def _edges(rng: random.Random, nodes: list[dict], n: int) -> list[dict]:
    groups: dict[str, list[str]] = {}
    for node in nodes:
        groups.setdefault(node["id"].rpartition(":")[0], []).append(node["id"])
    layers = {node["layer"] for node in nodes}
    pairs = [
        (source, target)
        for layer in layers
        for before, after in FEEDS
        for source in groups.get(f"blocks.{layer}.{before}", [])
        for target in groups.get(f"blocks.{layer}.{after}", [])
    ]
    chosen = rng.sample(pairs, min(n, len(pairs)))
    return [
        {"source": s, "target": t, "weight": round(rng.gauss(0, 1) ** 3 / 4, 4), "effect": None}
        for s, t in chosen
    ]
