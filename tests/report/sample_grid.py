"""A made-up grid's folder: planted effects, a cell that failed, one on other data, hostile names."""

import json
import random
from pathlib import Path

HOSTILE = "</script><img src=x onerror=\"alert('planted')\">"
SITES = ("blocks.0.mlp", "blocks.1.mlp")


def write_sample_grid(
    path: Path,
    *,
    axes: dict | None = None,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    effects: dict | None = None,
    tuned: bool = True,
    rows: int = 20,
    odd: bool = True,
) -> Path:
    """Write a grid; `effects` adds to bits per byte by axis value. odd: failures and other data."""
    axes = axes or {"k": ["mlp.k=8", "mlp.k=16", "mlp.k=32"], "width": ["", "mlp.width=2048"]}
    effects = effects if effects is not None else {"mlp.k=8": 0.06, "mlp.width=2048": -0.03}
    combos = [{}]
    for axis, values in axes.items():
        combos = [{**combo, axis: value} for combo in combos for value in values]
    combos += [{"baseline": "dense"}, {"baseline": f"ladder {HOSTILE}"}]
    cells = {}
    for number, values in enumerate(combos):
        for seed in seeds:
            name = f"cell{number}-seed{seed}"
            cells[name] = {"words": [], "values": values, "seed": seed, "identity": name}
            shift = sum(effects.get(value, 0) for value in values.values())
            write_cell(path / "cells" / name, number, seed, shift, "baseline" in values, rows)
    if odd:
        _oddities(path, cells, seeds)
    endpoints = ["bits_per_byte", "explained_loss"]
    head = {"format": 1, "name": "sample", "base": "tiny", "axes": axes, "seeds": list(seeds)}
    head |= {"baselines": {"dense": "match=dense"}, "endpoints": endpoints, "suite": "quick"}
    head["margins"] = {"bits_per_byte": 0.03}
    _write(path / "grid.json", head | {"cells": cells})
    if tuned:
        _write(path / "tuning.json", tuning(combos))
    return path


def write_cell(
    run: Path, number: int, seed: int, shift: float, dense: bool, rows: int, data: str = "python"
) -> None:
    """One finished and scored run, whose seed moves all arms alike."""
    rng = random.Random(f"{number} {seed}")
    common = random.Random(seed).gauss(0, 0.05)
    account = {"total": 1_000_000, "active": 400_000 + 90_000 * number}
    account |= {"flops_executed": 2e6 + 7e5 * number, "flops_ideal": 1e6}
    manifest = {"data_fingerprint": f"{data}-{'0' * 40}", "account": account}
    manifest["finished"] = {"step": 100, "seconds": 200 + 20 * number + rng.random()}
    _write(run / "config.json", {"seed": seed, "model": {}, "train": {}, "data": {}})
    _write(run / "manifest.json", manifest)
    lines = [{"kind": "train", "step": i, "loss": 2.0, "seconds": i} for i in range(rows)]
    lines += [{"kind": "event", "event": "revive", "step": 5, "units": 7}] * (number == 1)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    bits = 1.45 + common + shift + rng.gauss(0, 0.004)
    scores = _scores(bits, 0.1 if dense else 0.5 - shift + rng.gauss(0, 0.02), rng)
    about = {"format": 1, "checkpoint": 100, "suite": "quick", "test_openings": 0}
    about["data_fingerprint"] = manifest["data_fingerprint"]
    _write(run / "scores.json", about | {"scores": scores})


def _scores(bits: float, explained: float, rng: random.Random) -> list[dict]:
    whole = {"site": None, "unit_family": None, "split": "val", "n": 9, "seconds": 1.0}
    whole |= {"low": None, "high": None, "flags": [], "controls": {}, "tokens": 100}

    def of(metric: str, value: float | None, **more: object) -> dict:
        return whole | {"metric": metric, "value": value} | more

    twin = {"controls": {"random_twin": 0.02 + rng.gauss(0, 0.005)}}
    refused = ["no value: refused: labels:dev entered the loss " + HOSTILE]
    return [
        of("bits_per_byte", bits, better="lower", controls={"random_twin": 8.0}),
        of("bits_saved_over_5gram", 1.6 - bits, better="higher"),
        of("explained_loss", explained, better="higher", **twin),
        of("induction", -3.0, better="lower", controls={"random_twin": 0.0}),
        of("coverage", None, flags=refused),
        *(of("living_share", 0.9 + 0.05 * i, site=site) for i, site in enumerate(SITES)),
        of("mean_kurtosis", 30 + rng.gauss(0, 3)),
    ]


def _oddities(path: Path, cells: dict, seeds: tuple[int, ...]) -> None:
    (path / "failures").mkdir(parents=True)
    cells["gone-seed0"] = {"words": [], "values": {"k": "mlp.k=64"}, "seed": 0, "identity": "g"}
    reason = {"reason": f"mlp.k = 64 is too large {HOSTILE}", "code": 2, "attempts": 1}
    _write(path / "failures" / "gone-seed0.json", reason)
    cells["later-seed0"] = {"words": [], "values": {"k": "mlp.k=4"}, "seed": 0, "identity": "l"}
    for seed in seeds:
        name = f"other-seed{seed}"
        values = {"k": f"mlp.k=5 {HOSTILE}", "width": ""}
        cells[name] = {"words": [], "values": values, "seed": seed, "identity": name}
        write_cell(path / "cells" / name, 50, seed, -0.5, False, 5, data="text")


def tuning(combos: list[dict]) -> dict:
    """A curve for every arm but the last."""
    arms = []
    for number, values in enumerate(combos[:-1]):
        curve = [
            {"rate": rate, "dial": "", "bits": 1.5 + 0.05 * abs(i - 2) + 0.01 * number}
            for i, rate in enumerate((0.00075, 0.0015, 0.003, 0.006))
        ]
        chosen = {"rate": 0.003, "dial": ""}
        arms.append({"values": values, "curve": curve, "chosen": chosen, "at_edge": False})
        arms[-1] |= {"runs": len(curve), "defect": ""}
    about = {"format": 1, "by": "bits_per_byte", "field": "train.lr", "seeds": [100]}
    return about | {"arms": arms}


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
