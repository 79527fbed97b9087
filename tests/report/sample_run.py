"""A made-up run folder: plausible metrics, scores and units, with hostile text planted in them."""

import inspect
import json
import math
import random
import re
import textwrap
from pathlib import Path

HOSTILE = "</script><img src=x onerror=\"alert('planted')\">"
"""Ends a script element, and runs code, wherever a page would forget to escape it."""
MARKER = "zebra_marker"
"""A token that only unit 3 of the first site ever sees."""


def write_sample_run(
    path: Path, *, units: int = 24, seed: int = 0, data: str = "python", steps: int = 2000
) -> Path:
    """Write a run folder; `units` per site, two sites, contexts of 32 tokens."""
    rng = random.Random(seed)
    path.mkdir(parents=True)
    fingerprint = f"{data}-{'0' * 40}"
    _write(path / "config.json", config(seed, data, steps))
    _write(path / "manifest.json", manifest(fingerprint))
    rows = metric_rows(rng, steps)
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2001, "kind": "tra')
    _write(path / "scores.json", score_file(rng, fingerprint, steps))
    _write(path / "units.json", unit_file(rng, fingerprint, steps, units))
    return path


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def config(seed: int, data: str, steps: int) -> dict:
    mlp = {"type": "topk", "k": 32, "width": 1024, "signed": False}
    attention = {"type": "softmax", "heads": 4, "sink": False}
    model = {"layers": 2, "d_model": 128, "mlp": mlp, "attention": attention, "per_layer": {}}
    corpus = {"type": data, "note": HOSTILE}
    return {
        "preset": "tiny",
        "seed": seed,
        "model": model,
        "data": {"corpus": corpus},
        "train": {"steps": steps, "batch": 16},
    }


def manifest(fingerprint: str) -> dict:
    account = {"total": 1_185_024, "nonzero": 1_185_024, "active": 667_648}
    flops = {"flops_executed": 2.3e6, "flops_ideal": 1.4e6}
    versions = {"python": "3.11.2", "torch": "2.13.0"}
    return {
        "git_sha": "5b1e0c2",
        "data_fingerprint": fingerprint,
        "versions": versions,
        "account": account | flops,
    }


def metric_rows(rng: random.Random, steps: int) -> list[dict]:
    rows: list[dict] = []
    for step in range(10, steps + 1, 10):
        loss = 1.9 + 5 * math.exp(-step / 180) + 0.6 / (1 + step / 300) + rng.gauss(0, 0.04)
        lr = 3e-3 * min(1, step / 100) * (0.55 + 0.45 * math.cos(math.pi * step / steps))
        dead = 0.3 * math.exp(-step / 400) + 0.02 * rng.random()
        rows.append(
            {
                "kind": "train",
                "step": step,
                "tokens": step * 4096,
                "loss": loss,
                "lr": lr,
                "grad_norm": 0.4 + rng.random() / 5 + 3 * math.exp(-step / 90),
                "tokens_per_s": 29000 + rng.gauss(0, 900),
                "active_units": 31.2 - 4 * math.exp(-step / 200),
                "dead_share": dead,
            }
        )
        if step % 200 == 0:
            held_out = {"loss": loss + 0.06, "bits_per_byte": (loss + 0.06) * 0.62}
            rows.append({"kind": "val", "step": step, **held_out})
    rows.append({"kind": "event", "step": steps // 2, "event": "resume"})
    return rows


def score_file(rng: random.Random, fingerprint: str, steps: int) -> dict:
    later = "not measured yet: this control comes with the control suite"
    flag = "read from the first 200,000 tokens of the split"
    value = 1.43 + rng.random() / 50
    measured = {"split": "val", "n": 212, "seconds": 21.3, "tokens": 200_000}
    whole = {"site": None, "unit_family": None} | measured
    controls = {"bigram": 2.71, "5gram": 1.47, "random_twin": 3.94, "permuted_weights": later}
    bpb = {"value": value, "low": value - 0.012, "high": value + 0.012, "controls": controls}
    beaten = {
        "value": 0.006,
        "low": -0.01,
        "high": 0.02,
        "controls": {"unigram_cache": 0.008, "shuffled": 0.001},
    }
    scores = [
        whole | bpb | {"metric": "bits_per_byte", "flags": [flag]},
        whole | beaten | {"metric": "bits_saved_over_5gram", "flags": [flag, HOSTILE]},
    ]
    scores.append(whole | {"metric": "bits_per_byte_given_up", "value": 0.08, "flags": [flag]})
    for layer in range(2):
        covered = {"random_twin": 0.2, "pca": 0.1 + layer / 10, "floor_best": 0.3}
        coverage = {"value": 0.4 + layer / 5, "low": 0.3, "high": 0.6, "controls": covered}
        named = {"metric": "concept_coverage", "better": "higher", "flags": [flag]}
        scores.append(
            {"site": f"blocks.{layer}.mlp", "unit_family": "mlp"} | measured | coverage | named
        )
    for layer in range(2):
        site = {"site": f"blocks.{layer}.mlp", "unit_family": "mlp"} | measured
        twin = {"random_twin": 0.99, "permuted_weights": later, "rotated_units": later}
        living = {"value": 0.93, "low": None, "high": None, "controls": twin}
        note = "no interval: drawing documents again could only lose units"
        scores.append(site | living | {"metric": "living_share", "flags": [flag, note]})
    head = {"format": 1, "checkpoint": steps, "suite": "quick", "data_fingerprint": fingerprint}
    return head | {"scores": scores}


def unit_file(rng: random.Random, fingerprint: str, steps: int, units: int) -> dict:
    source = "".join(inspect.getsource(module) for module in (textwrap, json, inspect))
    words = re.findall(r" ?\w+| {2,}|\n|\t|[^\w\s]| ", source)
    vocab = [*sorted(set(words)), HOSTILE, MARKER, "\t", "\u202e", "\x00", " naïve", "日本"]
    ids = {text: i for i, text in enumerate(vocab)}
    stream = [ids[word] for word in words]
    planted = [ids[text] for text in (HOSTILE, "\t", "\u202e", "\x00", " naïve", "日本")]
    sites = [_site(rng, layer, units, stream, planted, ids) for layer in range(2)]
    head = {"format": 1, "checkpoint": steps, "data_fingerprint": fingerprint, "split": "val"}
    concepts = {
        "reason": None,
        "labels": [_label(name, sites, ids) for name in ("inside", HOSTILE)],
    }
    return head | {"n_tokens": 200_000, "vocab": vocab, "sites": sites, "concepts": concepts}


def _label(name: str, sites: list[dict], ids: dict) -> dict:
    """A label with a unit that is shown in the browser, and one that is not."""
    tokens, holds = [ids["def"], ids[HOSTILE], ids["return"]], [1, 1, 0]
    kinds = (("hit", 1), ("false_alarm", 2), ("miss", 0))
    contexts = [
        {"kind": kind, "document": HOSTILE, "tokens": tokens, "values": [0.0, 2.5, 1.25]}
        | {"holds": holds, "center": center}
        for kind, center in kinds
    ]
    found = {"sign": 1, "threshold": 0.5, "precision": 0.5, "recall": 0.5, "contexts": contexts}
    shown = sites[1]["units"][0]["unit"]
    best = {"site": sites[1]["name"], "unit": shown, "f1_a": 0.6, "f1": 0.5} | found
    worst = {"site": sites[0]["name"], "unit": 1023, "f1_a": 0.0, "f1": 0.0, "sign": -1}
    floor = 0.25 if name == "inside" else 0.75
    return {
        "label": name,
        "share": 0.12,
        "floor": floor,
        "best": [best],
        "worst": [found | worst | {"precision": None}],
    }


def _site(rng: random.Random, layer: int, n: int, stream: list, planted: list, ids: dict) -> dict:
    made = [_unit(rng, i, stream, len(ids) - 7) for i in range(n)]
    if layer == 0:
        for context in made[3]["contexts"][:3]:
            context["tokens"][-8:-2] = planted
            context["tokens"][-2] = ids[MARKER]
            context["values"][-8:] = [0.5] * 8
            context["document"] = HOSTILE
        made[3]["promotes"][0][0] = ids[HOSTILE]
    counts = [rng.randint(1, 40) + int(90 * math.exp(-((i - 9) ** 2) / 12)) for i in range(20)]
    histogram = {"edges": [-5 + i / 4 for i in range(21)], "counts": counts}
    living = {"living": 953, "living_share": 0.931, "kurtosis": 48.2 + layer}
    stats = {"mean_active": 31.4, "max_active": 32, "density_histogram": histogram} | living
    choice = f"a seeded sample of {n} of the 953 living units"
    about = {"kind": "mlp", "layer": layer, "n_units": 1024, "signed": layer == 1, "n_shown": n}
    exact = {"exactness": "linear-given-active-set", "choice": choice, "stats": stats}
    return {"name": f"blocks.{layer}.mlp", "units": made} | about | exact


def _unit(rng: random.Random, index: int, stream: list, n_vocab: int) -> dict:
    favorite = rng.choice(stream)
    top = rng.uniform(1.5, 6)
    strengths = {"top": 0.95, "p90": 0.6, "p50": 0.3, "p10": 0.08, "silent": 0, "near_miss": 0}
    contexts = [
        _context(rng, band, rng.uniform(0.9, 1) * top * strength, favorite, stream)
        for band, strength in strengths.items()
        for _ in range(5 if band == "top" else 4)
    ]
    logits = [[rng.randrange(n_vocab), round(rng.uniform(0.2, 2.5), 3)] for _ in range(20)]
    logits.sort(key=lambda pair: -pair[1])
    return {
        "unit": index * 7 % 1024,
        "density": 10 ** rng.uniform(-4.5, -1),
        "mean": top / 3,
        "max": top,
        "kurtosis": rng.uniform(4, 400),
        "mass": {"top": 0.17, "p90": 0.44, "p50": 0.34, "p10": 0.05},
        "promotes": logits[:10],
        "suppresses": [[token, -logit] for token, logit in logits[10:]],
        "contexts": contexts,
    }


def _context(rng: random.Random, band: str, peak: float, favorite: int, stream: list) -> dict:
    start = rng.randrange(len(stream) - 32)
    tokens = stream[start : start + 32]
    values = [0.0] * 32
    if band != "silent":
        tokens[23] = favorite
        values[23] = round(peak, 3)
    if peak:
        for i, token in enumerate(tokens):
            if token == favorite and rng.random() < 0.7:
                values[i] = round(peak * rng.uniform(0.4, 1), 3)
        values[rng.randrange(23)] = round(peak * rng.uniform(0.1, 0.4), 3)
        values[23] = round(peak, 3)
    return {
        "band": band,
        "document": rng.choice(["textwrap.py", "json/__init__.py", "inspect.py"]),
        "tokens": tokens,
        "values": values,
        "center": 23,
    }
