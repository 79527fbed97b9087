"""The analysis of H2 on made-up grids: planted prices are found at equal bits and at equal size."""

import json
import math

import numpy as np
import pytest

from pellucid.experiments import analysis, h2
from pellucid.sweep.statistics import holm

RUNGS = {96: 0.64e6, 128: 1.05e6, 192: 2.17e6, 256: 3.68e6, 320: 5.58e6, 384: 8e6}


def bits_of(size):
    return 3.0 - 0.1 * math.log(size)


def explained_of(size):
    return 0.02 * math.log(size)


def write(path, name, seed, *, size, bits, explained, data="a", lr=0.003):
    run = path / "cells" / name
    run.mkdir(parents=True)
    config = {"seed": seed, "model": {}, "data": {}, "train": {"lr": lr}}
    (run / "config.json").write_text(json.dumps(config))
    manifest = {"data_fingerprint": data, "account": {"active": size, "total": size}}
    (run / "manifest.json").write_text(json.dumps(manifest | {"finished": {"step": 1}}))
    (run / "metrics.jsonl").write_text("")
    values = {h2.BITS: bits, h2.EXPLAINED: explained, "bits_saved_over_5gram": 1.0}
    scores = [{"metric": m, "value": v, "flags": []} for m, v in values.items()]
    twin = {"controls": {"random_twin": 0.0}, "better": "higher", "flags": []}
    scores.append({"metric": "induction", "value": 1.0} | twin)
    (run / "scores.json").write_text(json.dumps({"format": 1, "scores": scores}))


def made(path, arms, seeds=range(5)):
    """A ladder, a coder and arms {label: (size, bits above the ladder, explained above it)}."""
    rng, cells = np.random.default_rng(0), {}
    for seed in seeds:
        moved = 0.03 * rng.normal()

        def add(name, values, size, cost, gain, at=None, seed=seed, moved=moved):
            cells[f"{name}-{seed}"] = {"seed": seed, "values": values}
            bits = bits_of(size) + cost + moved + 0.001 * rng.normal()
            # The dense model of these bits is of another size.
            equal = math.exp((3.0 - bits_of(size) - cost) / 0.1)
            explained = explained_of(equal) + gain + 0.001 * rng.normal()
            write(path, f"{name}-{seed}", seed, size=size, bits=bits, explained=explained)

        for d, size in RUNGS.items():
            name = "dense" if d == 256 else f"dense d{d}"
            add(name, {"baseline": name}, size, 0.0, 0.0)
        add("sae", {"baseline": "sae"}, 3.7e6, 0.02, 0.1)
        for label, about in arms.items():
            add(label, {"arm": label}, *about)
    head = {"format": 1, "name": "h2", "cells": cells, "seeds": list(seeds)}
    head |= {"posthoc": {"sae": "lr=1e-3,2e-3,4e-3,8e-3"}, "endpoints": [h2.EXPLAINED, h2.BITS]}
    (path / "grid.json").write_text(json.dumps(head))
    return {one.arm: one for one in h2.prices(path)}


def test_planted_prices_are_found(tmp_path):
    arms = {"clear": (3.0e6, 0.05, 0.2), "free": (3.0e6, 0.0, 0.0), "large": (2.0e7, -0.1, 0.3)}
    found = made(tmp_path, arms)
    assert set(found) == {"clear", "free", "large", "sae"}
    clear = found["clear"]
    assert clear.explained.value == pytest.approx(0.2, abs=0.005) and clear.explained.n == 5
    assert clear.bits.value == pytest.approx(0.05, abs=0.003)
    # Its coder explains 0.1, and has the bits of another size.
    equal = {"clear": 3.0e6 * math.exp(-0.5), "sae": 3.7e6 * math.exp(-0.2)}
    wanted = 0.1 + explained_of(equal["clear"]) - explained_of(equal["sae"])
    assert clear.coder.value == pytest.approx(wanted, abs=0.005)
    assert clear.p[0] < 0.01 and clear.p[1] < 0.01
    free = found["free"]
    assert free.explained.low < 0 < free.explained.high
    assert free.bits.low < 0 < free.bits.high
    assert found["sae"].explained.value == pytest.approx(0.1, abs=0.005)
    assert found["sae"].coder.value is None
    # Coders that name rates are not tuned by that.
    assert {one.said[0] for one in found.values()} == {"untuned"}


def test_nothing_is_said_beyond_the_ladder(tmp_path):
    large = made(tmp_path, {"large": (2.0e7, -0.1, 0.3)})["large"]
    assert large.explained.value is None and large.bits.value is None
    assert any("nothing is extrapolated" in said for said in large.said)
    assert any("20,000,000 active parameters lie outside" in said for said in large.said)
    text = h2.table([large])
    assert text.splitlines()[2].startswith("| large | – | – | – | – |")


def test_p_values_are_corrected_over_arms_and_endpoints(tmp_path):
    alone = made(tmp_path / "one", {"a": (3.0e6, 0.002, 0.0)})["a"]
    arms = {"a": (3.0e6, 0.002, 0.0), "b": (2.9e6, 0.002, 0.0), "c": (2.8e6, 0.002, 0.0)}
    several = made(tmp_path / "three", arms)
    assert min(one.p[1] / one.bits.p for one in several.values()) >= 1
    # One family: both endpoints of three arms and of the coder.
    raw = [one.explained.p for one in several.values()] + [one.bits.p for one in several.values()]
    told = [one.p[0] for one in several.values()] + [one.p[1] for one in several.values()]
    assert len(raw) == 8 and told == holm(raw)
    assert alone.p[1] / alone.bits.p <= 4


def test_a_rung_of_other_data_is_not_used(tmp_path):
    made(tmp_path, {"a": (3.0e6, 0.0, 0.0)}, seeds=range(2))
    manifest = tmp_path / "cells" / "dense d96-0" / "manifest.json"
    held = json.loads(manifest.read_text()) | {"data_fingerprint": "b"}
    manifest.write_text(json.dumps(held))
    found = {one.arm: one for one in h2.prices(tmp_path)}["a"]
    assert found.explained.n == 1 and any("on other data" in said for said in found.said)


def test_what_is_no_grid_is_told_in_one_line(tmp_path, capsys):
    assert analysis(lambda folder: h2.table(h2.prices(folder)), [str(tmp_path)]) == 2
    assert "is not a grid" in capsys.readouterr().err
