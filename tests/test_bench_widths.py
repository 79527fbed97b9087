"""`pellucid bench widths` on toy sizes: its table, its verdict, what it refuses."""

import json

import pytest

from pellucid.errors import UserError
from pellucid.experiments import bench_widths
from pellucid.experiments.bench_widths import Row, main, moved
from pellucid.models.mlp import MLPS


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    for name, value in {
        "STEPS": 6,
        "COUNTED": 2,
        "SEEDS": 1,
        "RATES": (1e-4, 1e-2),
        "WIDTHS": (64, 128),
    }.items():
        monkeypatch.setattr(bench_widths, name, value)


def test_the_best_rate_is_that_of_the_lowest_loss(tmp_path):
    assert main(["only=topk", f"json={tmp_path / 'w.json'}"]) in (0, 1)
    rows = json.loads((tmp_path / "w.json").read_text())["rows"]
    assert [(row["filling"], row["width"]) for row in rows] == [("topk", 64), ("topk", 128)]
    for row in rows:
        assert row["losses"][str(row["best"])] == min(row["losses"].values())
    again = bench_widths.loss(MLPS["topk"].Config(width=64, k=16), 1e-2)
    assert again == rows[0]["losses"]["0.01"]


def test_the_verdict_is_how_far_the_best_rate_moved(monkeypatch):
    rows = [
        Row("a", "width", 1, {}, 0.25),
        Row("a", "width", 2, {}, 1.0),
        Row("b", "codes", 1, {}, 0.5),
        Row("b", "codes", 2, {}, 0.25),
    ]
    assert (moved("a", rows), moved("b", rows)) == (4, 2)
    best = {64: 1e-4, 128: 1e-2}
    monkeypatch.setattr(bench_widths, "loss", lambda filling, rate: abs(rate - best[filling.width]))
    assert main(["only=dense"]) == 1
    best[128] = 1e-4
    assert main(["only=dense"]) == 0


@pytest.mark.parametrize("tag", MLPS)
def test_every_filling_has_a_size_that_grows(tag):
    held = [
        sum(p.numel() for p in bench_widths.sized(tag, field, size).build(32).parameters())
        for field, size in bench_widths.sizes(tag)
    ]
    assert held[0] < held[1]


def test_the_text_can_be_learned_and_is_the_same_each_time():
    tokens = bench_widths.text(3)
    assert tokens.equal(bench_widths.text(3)) and not tokens.equal(bench_widths.text(4))
    before = tokens[:, 1:-1] * 31 + (tokens[:, :-2] % 4) * 17
    assert set(((tokens[:, 2:] - before) % 64).flatten().tolist()) == {0, 7, 14, 21}


@pytest.mark.parametrize(
    ("word", "sentence"),
    [("only=pear", "only=pear is no filling; dense, topk"), ("steps=3", "steps=3 is not known")],
)
def test_what_cannot_be_measured_is_refused(word, sentence):
    with pytest.raises(UserError, match=sentence):
        main([word])
