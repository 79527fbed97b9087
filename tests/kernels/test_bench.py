"""`pellucid bench kernels` on toy sizes: what it writes and when it fails. Times are never tested."""

import json

import pytest
import torch

from pellucid.kernels import bench


@pytest.fixture
def toy_sizes(monkeypatch):
    monkeypatch.setattr(bench, "ROWS", 40)
    monkeypatch.setattr(bench, "D_MODEL", 8)
    monkeypatch.setattr(bench, "K", 4)
    monkeypatch.setattr(bench, "WIDTHS", (1024,))


def test_prints_and_writes_the_table(toy_sizes, tmp_path, capsys):
    assert bench.main(["rounds=3", f"json={tmp_path}/t.json"]) == 0
    printed = capsys.readouterr().out
    assert "width 1024: agrees" in printed and "torch.topk" in printed
    written = json.loads((tmp_path / "t.json").read_text())
    (row,) = written["widths"]
    assert set(row["ms"]) == {"top-k", "dense", "dense-masked", "topk_rows", "torch.topk"}
    assert all(low <= median <= high for median, low, high in row["ms"].values())
    assert written["threads"] == torch.get_num_threads() and written["rows"] == 40


def test_a_wrong_layer_fails(toy_sizes, monkeypatch, capsys):
    right = bench.ours
    monkeypatch.setattr(bench, "ours", lambda *a: 1.01 * right(*a))
    assert bench.main(["rounds=1"]) == 1
    assert "DISAGREES" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["rouns=3", "rounds", "rounds=0", "rounds=x", "seed=-1", "json="])
def test_bad_words(word, capsys):
    assert bench.main([word]) == 2
    assert "bench kernels: " in capsys.readouterr().out
