"""Whole suites at their own settings: every metric of the table is taken, and has its say."""

from collections import defaultdict

import pytest

from pellucid.eval import METRICS, evaluate

LATENT = "the corpus is not `latent`"
NONE = {
    **dict.fromkeys(("regret", "latent_f1", "latent_auroc", "latent_mcc", "belief_mcc"), LATENT),
    "latent_interchange": LATENT,
    "minimal_pairs": "no Python definition that fits the context",
    "concept_coverage_normalised": "the probe is above the floor for no label",
    "targeted_ablation_mean_equal": "no label's units add 0.05 nats",
    **{f"concept_coverage_of_{n}_units": f"16 units, fewer than {n}" for n in (64, 256, 1024)},
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
