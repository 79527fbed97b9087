"""What is given up against the matched dense run, and what the page is told of labels."""

import importlib
import json

import pytest

from pellucid.eval import Score, bootstrap, workbench
from pellucid.eval.suite import METRICS
from pellucid.eval.taking import taken


@pytest.fixture(scope="module")
def benches(make_run):
    ours, dense = make_run("topk"), make_run("dense")
    return workbench(ours, dense=dense), workbench(ours)


def test_the_price_is_the_difference_file_by_file(benches):
    bench, _ = benches
    (ours,) = taken(bench, "bits_per_byte", METRICS["bits_per_byte"])
    (price,) = taken(bench, "bits_per_byte_given_up", METRICS["bits_per_byte_given_up"])
    dense = bench.controls["dense_neurons"].end_to_end.bits
    assert price.value == pytest.approx(ours.value - ours.controls["dense_neurons"], rel=1e-9)
    assert price.better == "lower"
    twin = ours.controls["random_twin"] - ours.controls["dense_neurons"]
    assert price.controls["random_twin"] == pytest.approx(twin, rel=1e-9)
    assert price.controls["dense_neurons"] == "the dense run itself gives up nothing"
    stream = bench.stream
    apart = stream.per_document(bench.reader.end_to_end.bits - dense)
    paired = bootstrap.ratio(apart, stream.doc_bytes, seed=bench.seed)
    assert (price.low, price.high) == (paired.low, paired.high)
    # Files are paired: how hard a file is does not widen the interval.
    assert price.high - price.low < ours.high - ours.low


def test_without_a_dense_run_the_price_is_a_sentence(benches):
    (price,) = taken(benches[1], "bits_per_byte_given_up", METRICS["bits_per_byte_given_up"])
    assert price.value is None
    assert "no matched dense run was named" in price.flags[0]


def test_units_json_lists_labels_with_their_units(scored):
    run, _ = scored()
    held = json.loads(run.folder.units_file.read_text())
    assert held["concepts"]["reason"] is None
    sites = {site["name"]: site["n_units"] for site in held["sites"]}
    for label in held["concepts"]["labels"]:
        assert 0 < label["share"] < 1
        for one in (*label["best"], *label["worst"]):
            assert one["unit"] < sites[one["site"]]
            assert all(len(place["tokens"]) == len(place["holds"]) for place in one["contexts"])
        assert label["best"][0]["f1_a"] >= label["worst"][0]["f1_a"]


def test_a_metric_without_a_value_shows_no_units_of_labels(benches):
    module = importlib.import_module("pellucid.eval.evaluate")
    about = {"metric": module.LABELLED, "n": 0, "seconds": 0.0, "tokens": 0}
    refused = Score(value=None, flags=("no value: refused: it chose the model",), **about)
    told = {"reason": "refused: it chose the model", "labels": []}
    assert module._concepts(benches[1], [refused]) == {"concepts": told}
    assert module._concepts(benches[1], []) == {}
