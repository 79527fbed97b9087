"""Every metric takes a run of post-hoc coders of every kind, beside its frozen twin."""

from collections import defaultdict
from dataclasses import replace

import pytest

from pellucid.eval import METRICS, SUITES, evaluate
from pellucid.eval.controls import CONTROLS, FROZEN
from pellucid.eval.rules.limits import Limits
from pellucid.eval.score import NO_VALUE
from pellucid.posthoc import posthoc
from pellucid.posthoc.splice import FILLING
from pellucid.run import load

SMALL = ("steps=6", "batch=4", "width=24", "k=3", "eval_tokens=512")
LATENT = ("regret", "latent_f1", "latent_auroc", "latent_mcc", "belief_mcc", "latent_interchange")
LITTLE = replace(
    SUITES["standard"],
    tokens=8_192,
    ngram_tokens=50_000,
    rules=Limits(sampled=2, units=8, tokens=2_000),
)
"""All metrics and controls of `standard`, on little text and with rules of few units."""
NONE = {
    **dict.fromkeys(LATENT, "the corpus is not `latent`"),
    "minimal_pairs": "no Python definition that fits the context",
}
"""What this text and context give no value of, for any model."""
PERHAPS = {
    **{
        f"k_sparse_{kind}_{k}_normalised": "the probe is above the floor for no label"
        for kind in ("auroc", "auprc")
        for k in (1, 2, 5)
    },
    "targeted_ablation_mean_equal": "no label's units add 0.05 nats",
}
"""What a model of a few steps may have no value of."""


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["topk", "batch_topk"])
@pytest.mark.parametrize("kind", FILLING)
def test_every_metric_takes_coders_of_every_kind(dense, tmp_path, monkeypatch, kind, rule):
    monkeypatch.setitem(SUITES, "standard", LITTLE)
    words = [f"kind={kind}", f"rule={rule}", *SMALL]
    (path,) = posthoc(dense.folder.path, words, tmp_path / "run")
    found = defaultdict(list)
    for score in evaluate(load(path), suite="standard", dense=dense, progress=False):
        found[score.metric.partition(":")[0].partition("_nats_")[0]].append(score)
    assert set(found) == {name for name, metric in METRICS.items() if "standard" in metric.suites}
    silent = {n: some[0] for n, some in found.items() if all(s.value is None for s in some)}
    known = NONE | PERHAPS
    assert {n: s.flags[0] for n, s in silent.items() if known.get(n, "?") not in s.flags[0]} == {}
    assert set(NONE) <= set(silent)
    for score in (score for some in found.values() for score in some):
        assert score.value is not None or score.flags[0].startswith(NO_VALUE), score
        if score.value is not None and score.better is not None:
            assert {*CONTROLS, FROZEN} <= set(score.controls), score
    assert isinstance(found["bits_per_byte"][0].controls[FROZEN], float)
    assert {score.site for score in found["living_share"]} == {"blocks.0.mlp", "blocks.1.mlp"}
