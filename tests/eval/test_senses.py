"""The senses of a backpack are scored like other units, by the strength with which they speak."""

import numpy as np
import pytest
import torch
from support.ruled import CONTEXT, VOCAB, common_text

from pellucid.eval import evaluate, units_page
from pellucid.eval.halves import halves
from pellucid.eval.reader import Reader
from pellucid.eval.rules import Settings
from pellucid.eval.rules.explained_loss import Limits, measure
from pellucid.eval.rules.purities import output_purities
from pellucid.eval.rules.scores import rule_scores
from pellucid.eval.suite import METRICS
from pellucid.eval.unit_statistics import PAIRS, mean_active_units
from pellucid.eval.workbench import Workbench
from pellucid.models import ModelConfig, Transformer
from pellucid.models.head import HEADS
from pellucid.models.mlp import MLPS

SITE, WORD = "head.strengths", 4


def backpack(seed: int = 0) -> Transformer:
    config = ModelConfig(
        n_layers=1,
        d_model=16,
        context=CONTEXT,
        mlp=MLPS["topk"].Config(width=32, k=4),
        head=HEADS["backpack"].Config(n_senses=2),
    )
    return Transformer(config, vocab_size=VOCAB, seed=seed).eval()


def planted() -> Transformer:
    """Every sense sees its own word alone: the first speaks of one word, the second of all.

    What the first says makes the next token the one after it; the second says nothing of use.
    """
    model = backpack()

    def senses(tokens: torch.Tensor) -> torch.Tensor:
        first, second = torch.zeros(2, *tokens.shape, 16).unbind()
        first[..., 0], second[..., 1] = 3.0 * (tokens == WORD), 2.0
        return torch.stack([first, second], dim=-2)

    model.head.senses = senses
    model.head._weights = lambda q, k: torch.eye(q.shape[2], k.shape[2]).expand(
        *q.shape[:2], -1, -1
    )
    model.head.forward = model.head.split  # the fused path knows nothing of these weights
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.weight[WORD + 1, 0] = 3.0
    return model


class Vocabulary:
    def token_text(self, token: int) -> str:
        return f"t{token}"


@pytest.fixture(scope="module")
def bench() -> Workbench:
    stream = common_text(40, 120)
    tokens = stream.tokens
    tokens[(tokens == WORD) & (stream.targets() == stream.eot)] = WORD + 2
    tokens[np.flatnonzero(tokens == WORD) + 1] = WORD + 1
    readers = [Reader(m, stream, CONTEXT, shown=8) for m in (planted(), backpack(1))]
    return Workbench(*readers, stream.tokens, VOCAB, "val", 0)


def test_how_many_senses_speak(bench):
    scores = {score.site: score for score in mean_active_units(bench)}
    assert list(scores) == ["blocks.0.mlp", SITE, "head.senses"]
    share = (bench.stream.tokens == WORD).mean()
    assert scores[SITE].value == pytest.approx(1 + share)
    assert scores[SITE].controls["random_twin"] == 2
    assert scores[SITE].unit_family == "head"


def test_that_weights_on_pairs_are_not_scored_is_said_once(bench):
    score = next(s for s in mean_active_units(bench) if s.site == "head.senses")
    assert score.value is None and score.flags[0] == f"no value: {PAIRS}"
    assert score.controls["random_twin"] == PAIRS


def test_a_sense_that_is_a_words_has_a_rule(bench):
    scores = {s.metric: s for s in rule_scores(bench) if s.site == SITE}
    assert scores["rule:f1_64bits_all"].value == pytest.approx(1.0)
    half = pytest.approx(0.5, abs=1e-3)
    assert scores["rule:r2_64bits_all"].value == half, "the other sense never moves"


def test_what_a_sense_does_for_the_loss_its_rule_does_too(bench):
    settings = Settings(seed=0, places=3000)
    arms = measure(bench.reader, halves(bench.stream, 0), settings, Limits())
    assert arms.ablated.sum() > arms.full.sum() + 1
    assert arms.score("64bits", seed=0).value == pytest.approx(1, abs=0.02)


def test_no_one_direction_is_a_sentence(bench):
    score = next(s for s in output_purities(bench) if s.site == SITE)
    assert score.value is None
    assert score.flags[0] == "no value: its units write no one direction each"


def test_contexts_of_a_sense_are_where_it_speaks(bench):
    about = {"checkpoint": 0, "data_fingerprint": "", "split": "val"}
    sites = units_page.pack(bench.reader, Vocabulary(), **about)["sites"]
    page = next(site for site in sites if site["name"] == SITE)
    first, second = page["units"]
    top = [c for c in first["contexts"] if c["band"] == "top"]
    assert top and all(c["tokens"][c["center"]] == WORD for c in top)
    assert first["max"] == 3 and second["density"] == 1 and first["promotes"] == []


def test_a_whole_suite_scores_senses(make_run, generated_data):
    run = make_run()
    model = run.config.model.replace(head=HEADS["backpack"].Config(n_senses=4))
    run.config.model = model
    object.__setattr__(
        run, "model", Transformer(model, vocab_size=generated_data.vocab_size, seed=9).eval()
    )
    scores = evaluate(run, progress=False)
    named = {s.metric.partition(":")[0] for s in scores if s.site == SITE}
    everywhere = {s.metric.partition(":")[0] for s in scores if s.site == "blocks.0.mlp"}
    assert named == everywhere and {"rule", "living_share", "intruder"} < named
    assert all(s.value is not None or s.flags for s in scores)
    assert {"mean_active_units"} == {s.metric for s in scores if s.site == "head.senses"}
    assert named <= {name for name, line in METRICS.items() if "quick" in line.suites}
