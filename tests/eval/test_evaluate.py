"""A whole evaluation: what is written, that it is the same again, and that controls are there."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from pellucid.errors import RunError
from pellucid.eval import METRICS, SUITES, NGram, evaluate, random_twin, workbench
from pellucid.eval.contexts import BANDS
from pellucid.eval.controls import CONTROLS
from pellucid.eval.score import unpack
from pellucid.storage import files

FAMILIES = ["topk", "abs_topk", "batch_topk", "jumprelu", "dense"]


def without_times(scores):
    return [dataclasses.replace(score, seconds=0.0) for score in scores]


def test_scores_are_written_and_read_back(scored):
    run, scores = scored()
    assert unpack(run.folder.read_scores()) == scores
    quick = {name for name, metric in METRICS.items() if "quick" in metric.suites}
    assert {score.metric.partition(":")[0] for score in scores} == quick
    head = {key: value for key, value in run.folder.read_scores().items() if key != "scores"}
    fingerprint = run.data.fingerprint
    assert head == {
        "format": 1,
        "checkpoint": 40,
        "suite": "quick",
        "data_fingerprint": fingerprint,
        "test_openings": 0,
    }
    assert not [path for path in run.folder.path.iterdir() if path.name.startswith(".tmp")]


def test_every_claim_stands_beside_every_control_or_the_reason_why_not(scored):
    _, scores = scored()
    claims = [s for s in scores if s.better is not None and s.value is not None]
    assert len({score.metric.partition(":")[0] for score in claims}) > 10
    assert [s.metric for s in claims if not set(CONTROLS) <= set(s.controls)] == []


def test_the_same_seed_gives_the_same_scores_and_units_bit_for_bit(make_run, scored):
    (run, first), other = scored(), make_run()
    again = evaluate(other, progress=False)
    assert without_times(first) == without_times(again)
    assert run.folder.units_file.read_bytes() == other.folder.units_file.read_bytes()


def test_bits_per_byte_stand_beside_their_controls(scored):
    run, scores = scored()
    split = run.data.split("val")
    tokens = np.append(np.asarray(split.tokens, dtype=np.int64), run.tokenizer.eot)
    train = np.asarray(run.data.split("train").tokens)
    [found] = [score for score in scores if score.metric == "bits_per_byte"]
    for name, order in (("bigram", 2), ("kneser_ney_5gram", 5)):
        bits = -NGram(train, run.data.vocab_size, order=order).log2_probs(tokens)[1:].sum()
        assert found.controls[name] == pytest.approx(bits / split.doc_bytes.sum(), rel=1e-9)
    by_hand = -sum(window_log2(random_twin(run), tokens, a) for a in range(0, len(tokens) - 1, 32))
    expected = by_hand / split.doc_bytes.sum()
    assert found.controls["random_twin"] == pytest.approx(expected, rel=1e-5)
    assert found.value != found.controls["random_twin"]
    assert found.n == len(split.names)
    assert found.tokens == len(split.tokens)


def window_log2(model, tokens, start):
    """log2 p of the targets of one row."""
    row = torch.from_numpy(tokens[start : start + 33])
    with torch.no_grad():
        logits = model(row[None, :-1]).logits[0]
    return float(logits.double().log_softmax(-1)[range(len(row) - 1), row[1:]].sum() / np.log(2))


def test_savings_over_the_5gram_are_the_difference_of_the_two(scored):
    _, scores = scored()
    by_name = {score.metric: score for score in scores if score.site is None}
    ours, saved = by_name["bits_per_byte"], by_name["bits_saved_over_5gram"]
    assert saved.value == pytest.approx(ours.controls["kneser_ney_5gram"] - ours.value)
    twin = ours.controls["kneser_ney_5gram"] - ours.controls["random_twin"]
    assert saved.controls["random_twin"] == pytest.approx(twin)


def test_the_random_twin_is_the_model_at_step_0(make_run):
    run = make_run()
    twin, again = random_twin(run), random_twin(run)
    for a, b, trained in zip(twin.parameters(), again.parameters(), run.model.parameters()):
        assert torch.equal(a, b)
        assert a.dtype == trained.dtype
    assert not torch.equal(twin.blocks[0].mlp.w_enc, run.model.blocks[0].mlp.w_enc)


@pytest.mark.parametrize("mlp", FAMILIES)
def test_unit_statistics_of_every_family_are_those_of_its_activations(scored, mlp):
    run, listed = scored(mlp)
    scores = {(s.metric, s.site): s for s in listed}
    reader = workbench(run).reader
    tokens = torch.from_numpy(reader.stream.tokens)
    whole = len(tokens) // 32 * 32
    parts = [*tokens[:whole].view(-1, 32).split(16), tokens[None, whole:]]
    rows = [site_values(run.model, part) for part in parts if part.numel()]
    for name in ("blocks.0.mlp", "blocks.1.mlp"):
        values = torch.cat([row[name] for row in rows]).numpy()
        signed_dense = mlp == "dense"
        threshold = np.abs(values).max(0) / 10 if signed_dense else 0
        active = np.abs(values) > threshold
        # For dense signed units the threshold is rounded down, by 6 % at most.
        rel = 0.02 if signed_dense else 1e-9
        found = scores["mean_active_units", name]
        assert found.value == pytest.approx(active.sum(1).mean(), rel=rel)
        most = active.sum(1).max()
        assert scores["max_active_units", name].value == pytest.approx(most, abs=signed_dense)
        assert scores["living_share", name].value == active.any(0).mean()
        assert isinstance(found.controls["random_twin"], float)
        moved = values[:, active.any(0)].astype(np.float64)
        off = moved - moved.mean(0)
        kurtosis = (off**4).mean(0) / (off**2).mean(0) ** 2
        assert scores["mean_kurtosis", name].value == pytest.approx(kurtosis.mean(), rel=1e-6)


def site_values(model, tokens):
    """Every mlp site's activations as (token, unit), through `record` alone."""
    from pellucid.models import record

    names = [name for name, site in model.sites().items() if site.kind == "mlp"]
    with record(model, names) as trace, torch.no_grad():
        model(tokens)
    return {name: trace[name].to_dense().flatten(0, 1) for name in names}


@pytest.mark.parametrize("mlp", FAMILIES)
def test_units_are_described_as_the_report_expects(scored, mlp):
    run, _ = scored(mlp)
    page = run.folder.read_units()
    assert page["checkpoint"] == 40
    assert page["split"] == "val"
    assert page["vocab"][5] == run.tokenizer.token_text(5)
    assert len(page["vocab"]) == run.data.vocab_size
    assert [site["name"] for site in page["sites"]] == ["blocks.0.mlp", "blocks.1.mlp"]
    for site in page["sites"]:
        assert site["choice"] == "all 64 units"
        stats = site["stats"]
        assert sum(stats["density_histogram"]["counts"]) == stats["living"]
        for unit in site["units"]:
            check_unit(unit, page, run)


def check_unit(unit, page, run):
    names = set(run.data.split("val").names)
    if unit["density"]:
        assert sum(unit["mass"].values()) == pytest.approx(1.0, abs=0.01)
    logits = [logit for _, logit in unit["promotes"]]
    assert logits == sorted(logits, reverse=True)
    assert len(logits) == len(unit["suppresses"]) == 10
    assert unit["suppresses"][0][1] <= unit["suppresses"][-1][1] <= logits[-1]
    for context in unit["contexts"]:
        assert context["document"] in names
        assert len(context["tokens"]) == len(context["values"])
        value = context["values"][context["center"]]
        assert (abs(value) > 0) or context["band"] in ("silent", "near_miss")
        assert context["band"] in (*BANDS, "silent", "near_miss")


def test_promoted_tokens_are_those_of_the_units_own_direction(scored):
    run, _ = scored()
    site = run.folder.read_units()["sites"][1]
    directions = run.model.sites()["blocks.1.mlp"].write_directions()
    logits = run.model.direct_logits(directions).detach()
    # Of the tokens that occur in the held-out text; what never occurs is not listed.
    seen = sorted(set(run.data.split("val").tokens.tolist()))
    assert len(seen) < run.data.vocab_size
    for unit in site["units"][:5]:
        own = sorted(seen, key=lambda token: float(logits[unit["unit"], token]))
        assert [token for token, _ in unit["promotes"]] == own[::-1][:10]
        assert [token for token, _ in unit["suppresses"]] == own[:10]


def test_a_dead_unit_counts_as_dead_and_a_dead_layer_says_so(make_run):
    run = make_run()
    with torch.no_grad():
        run.model.blocks[0].mlp.b_enc[7] = -1e6
        run.model.blocks[1].mlp.b_enc[:] = -1e6
    scores = {(s.metric, s.site): s for s in evaluate(run, progress=False)}
    assert scores["living_share", "blocks.0.mlp"].value == 63 / 64
    assert "63 of 64 units were active" in scores["living_share", "blocks.0.mlp"].flags[0]
    assert scores["living_share", "blocks.1.mlp"].value == 0.0
    kurtosis = scores["mean_kurtosis", "blocks.1.mlp"]
    assert kurtosis.value is None
    assert kurtosis.flags == ("no value: no unit of this layer was ever active",)
    unit = run.folder.read_units()["sites"][0]["units"][7]
    assert unit["density"] == 0
    assert unit["kurtosis"] is None
    assert {context["band"] for context in unit["contexts"]} <= {"silent"}


def test_unknown_suites_and_splits_that_were_trained_on_are_refused(make_run):
    run = make_run()
    with pytest.raises(
        RunError, match="suite .fast. is unknown: smoke, quick, standard, full are accepted"
    ):
        evaluate(run, suite="fast", progress=False)
    with pytest.raises(RunError, match="split 'train' is not held out"):
        evaluate(run, split="train", progress=False)
    assert not run.folder.scores_file.exists()


def test_units_json_is_compact(scored):
    run, _ = scored()
    text = run.folder.units_file.read_bytes()
    assert text == files.dump(json.loads(text), "units.json", RunError, indent=None)
    assert text.count(b"\n") == 1


@pytest.mark.parametrize("suite", ["quick", "full"])
def test_the_workbench_has_the_limits_of_its_suite(make_run, suite):
    assert workbench(make_run(), suite=suite).rules == SUITES[suite].rules


def test_the_workbench_labels_the_stream_or_says_why_not(make_run):
    bench = workbench(make_run())
    table = bench.labels
    assert table is bench.labels
    assert table.after.shape[0] == len(bench.stream.tokens)
    assert table.after[table.known, table.index("in_string")].mean() > 0.01
