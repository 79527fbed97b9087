"""Whole suites at their own settings: every metric of the table is taken, and has its say."""

from collections import defaultdict
from dataclasses import replace

import pytest

from pellucid.eval import METRICS, evaluate
from pellucid.eval.score import NO_VALUE

LATENT = "the corpus is not `latent`"
NO_PROBE = "the probe is above the floor for no label"
PROBED = [
    *("concept_coverage", "concept_reconstruction", "concept_coverage_of_16_units"),
    *(f"concept_coverage_at_{permille}_permille" for permille in (3, 10, 30, 100)),
    *(f"k_sparse_{kind}_{k}" for kind in ("auroc", "auprc") for k in (1, 2, 5)),
]
MORE = (64, 256, 1024)
NONE = {
    **dict.fromkeys(("regret", "latent_f1", "latent_auroc", "latent_mcc", "belief_mcc"), LATENT),
    "latent_interchange": LATENT,
    "minimal_pairs": "no Python definition that fits the context",
    **{f"{name}_normalised": NO_PROBE for name in PROBED},
    "targeted_ablation_mean_equal": "no label's units add 0.05 nats",
    **{f"concept_coverage_of_{n}_units": f"16 units, fewer than {n}" for n in MORE},
    **{f"concept_coverage_of_{n}_units_normalised": f"fewer than {n} units" for n in MORE},
}
"""What an untrained model of one layer, a small context and this text gives no value of."""


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["standard", "full"])
def test_every_metric_of_a_suite_gives_a_value_or_says_why_not(make_run, suite):
    """Controls of every kind among them, and in `full` rules of all units."""
    run, dense = make_run(width=16, n_layers=1), make_run("dense", width=16, n_layers=1)
    found = defaultdict(list)
    for score in evaluate(run, suite=suite, dense=dense, progress=False):
        found[score.metric.partition(":")[0].partition("_nats_")[0]].append(score)
    assert set(found) == {name for name, metric in METRICS.items() if suite in metric.suites}
    silent = {n: some[0] for n, some in found.items() if all(s.value is None for s in some)}
    assert {n: s.flags[0] for n, s in silent.items() if NONE.get(n, "?") not in s.flags[0]} == {}
    assert set(silent) == set(NONE) & set(found)
    drawn = {"standard": "2 of 16 units, drawn by the seed,", "full": "all 16 units"}
    for name in ("rule", "monosemantic_share"):
        assert any(flag.startswith(drawn[suite]) for flag in found[name][0].flags)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_scores_in_standard_bit_for_bit(make_run):
    """Of runs of the same weights: nothing of the first evaluation is there for the second."""
    found = []
    for _ in range(2):
        run, dense = make_run(width=16, n_layers=1), make_run("dense", width=16, n_layers=1)
        scores = evaluate(run, suite="standard", dense=dense, progress=False)
        found.append([replace(score, seconds=0.0).to_json() for score in scores])
    first, again = found
    assert len(first) == len(again) > len(METRICS) / 2
    assert [one for one, other in zip(first, again, strict=True) if one != other] == []


@pytest.mark.slow
@pytest.mark.parametrize("mlp", ["abs_topk", "batch_topk", "jumprelu"])
def test_other_families_are_scored_whole(make_run, mlp):
    quick = {name for name, metric in METRICS.items() if "quick" in metric.suites}
    scores = evaluate(make_run(mlp), progress=False)
    assert {score.metric.partition(":")[0] for score in scores} == quick
    for score in scores:
        assert score.value is not None or score.flags[0].startswith(NO_VALUE), score
