"""The share of the logits through units, where it is known."""

import numpy as np
import pytest
import torch
from support.causes import Caused
from support.planted import EOT, random_stream

from pellucid.eval.causal.logit_share import (
    MEAN,
    ZERO,
    Texts,
    cross_entropy_through_units_mean,
    logit_share,
    measure,
)
from pellucid.eval.causal.through_units import Splitter, scale_of, written_by
from pellucid.eval.reader import Reader
from pellucid.eval.workbench import Workbench
from pellucid.models import Activations, ModelConfig, Transformer, record
from pellucid.models.mlp import MLPS
from pellucid.models.norm import NORMS

SITE, VOCAB = "blocks.0.mlp", 8
RULES = [lambda t, v=v: t == v for v in range(1, VOCAB)]
ALWAYS = lambda t: torch.ones_like(t)
TEXT = random_stream(24, 100, vocab_size=VOCAB)


def effects(n: int, strength: float = 3.0) -> torch.Tensor:
    return strength * torch.randn(n, VOCAB, generator=torch.Generator().manual_seed(0))


def by_token(table: torch.Tensor):
    return lambda tokens: table[tokens]


def a_bench(model, twin=None) -> Workbench:
    reader = Reader(model, TEXT, context=32)
    twin = Reader(twin or model, TEXT, context=32)
    return Workbench(reader, twin, TEXT.tokens, VOCAB, split="val", seed=0)


def found(model) -> dict:
    bench = a_bench(model)
    return measure(bench.reader, Texts.of(bench))


@pytest.mark.parametrize("sparse", [False, True])
def test_logits_that_are_written_by_units_alone_flow_through_them_whole(sparse):
    scores = found(Caused(RULES, effects(VOCAB - 1), sparse=sparse))
    # The eot's own position aside, whose logits are all zero.
    assert scores["logit_share"][None].value == pytest.approx(1.0, abs=1e-3)
    assert scores["logit_share"][SITE].value == pytest.approx(1.0, abs=1e-3)
    assert scores[MEAN][None].value == pytest.approx(scores[ZERO][None].value, abs=1e-5)


def test_units_that_write_the_same_everywhere_carry_no_share():
    base = by_token(effects(VOCAB))
    scores = found(Caused([ALWAYS], 5 * effects(1), base=base))
    assert scores["logit_share"][None].value == pytest.approx(0.0, abs=1e-5)


def test_units_that_go_with_the_text_and_write_nothing_carry_no_share():
    base = by_token(effects(VOCAB))
    scores = found(Caused(RULES, torch.zeros(VOCAB - 1, VOCAB), base=base))
    assert scores["logit_share"][None].value == pytest.approx(0.0, abs=1e-5)
    # Without the rest every token is as likely.
    assert scores[ZERO][None].value == pytest.approx(np.log(VOCAB), rel=1e-5)


def test_units_that_write_half_of_each_logit_carry_half():
    table = effects(VOCAB)
    table[EOT] = 0
    scores = found(Caused(RULES, table[1:], base=by_token(table)))
    assert scores["logit_share"][None].value == pytest.approx(0.5, abs=1e-3)
    assert scores["logit_share"][None].low <= 0.5 <= scores["logit_share"][None].high + 1e-6


def a_transformer(norm: str, mlp: str = "topk") -> Transformer:
    width = {"width": 32, "k": 6} if mlp == "topk" else {"width": 32}
    config = ModelConfig(
        n_layers=2,
        d_model=16,
        context=32,
        mlp=MLPS[mlp].Config(**width),
        norm=NORMS[norm].Config(),
    )
    return Transformer(config, vocab_size=VOCAB, seed=1).eval()


@pytest.mark.parametrize("norm", ["rms", "layer"])
@torch.no_grad()
def test_the_last_stream_at_its_scale_is_all_of_the_logits(norm):
    model, tokens = a_transformer(norm), torch.from_numpy(TEXT.tokens[:32])[None]
    with record(model, ["blocks.1.stream"]) as trace:
        logits = model(tokens).logits[0]
    stream = trace["blocks.1.stream"].values[0]
    scale, center = scale_of(model, logits, stream)
    assert center == (norm == "layer")
    spread = stream.var(-1, correction=0) if center else stream.square().mean(-1)
    torch.testing.assert_close(scale[..., 0], (spread + 1e-5).rsqrt(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("mlp", ["topk", "dense"])
@torch.no_grad()
def test_what_the_units_write_is_what_their_layers_add(mlp):
    model, tokens = a_transformer("rms", mlp), torch.from_numpy(TEXT.tokens[:32])[None]
    with record(model, [SITE, "blocks.0.mlp_out"]) as trace:
        model(tokens)
    written = written_by(trace[SITE], model.sites()[SITE].write_directions())
    rest = trace["blocks.0.mlp_out"].values - written
    # What is left is the bias: the same at every token.
    torch.testing.assert_close(rest, rest[:, :1].expand_as(rest), rtol=0, atol=1e-5)


def test_an_empty_slot_writes_nothing():
    sparse = Activations(torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[1, -1]]]).int(), 3)
    directions = torch.tensor([[1.0, 0.0], [0.0, 3.0], [5.0, 5.0]])
    assert written_by(sparse, directions).tolist() == [[[0.0, 6.0]]]


def watched(model, monkeypatch) -> list[int]:
    """How many vectors are taken to logits by each call, written down as it happens."""
    made, direct = [], model.direct_logits
    monkeypatch.setattr(model, "direct_logits", lambda d: made.append(len(d)) or direct(d))
    return made


def test_logits_are_taken_apart_a_few_tokens_at_a_time(monkeypatch):
    model = a_transformer("rms")
    made = watched(model, monkeypatch)
    bench = a_bench(model)
    texts = Texts.of(bench)
    at_once = measure(bench.reader, texts)
    assert texts.b.scored.sum() > 4 * 256 and max(made) == 256
    # A larger vocabulary has fewer tokens at once: here 5. The numbers stay.
    monkeypatch.setattr("pellucid.eval.causal.through_units.NUMBERS", 5 * VOCAB)
    made.clear()
    for metric, found in measure(bench.reader, texts).items():
        for site, interval in found.items():
            value = at_once[metric][site].value
            assert interval.value == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert max(made) == 5


def test_the_parts_of_the_logits_are_made_one_by_one(monkeypatch):
    model = a_transformer("rms")
    made = watched(model, monkeypatch)
    splitter, rows, seen = Splitter(model, model.sites()), Texts.of(a_bench(model)).b, 0
    for split in splitter.split(rows):
        made.clear()
        for n, (_, part) in enumerate(split.parts, 1):
            assert len(made) == n and part.shape == split.logits.shape
        assert n == len(splitter.write) > 1
        assert split.at == slice(seen, seen + len(split.logits))
        seen = split.at.stop
    assert seen == rows.scored.sum()


def test_scores_of_a_transformer_stand_beside_its_twin():
    bench = a_bench(a_transformer("rms"), a_transformer("layer"))
    scores = logit_share(bench) + cross_entropy_through_units_mean(bench)
    named = {(score.metric, score.site): score for score in scores}
    assert ("logit_share", "blocks.1.mlp") in named
    whole = named["logit_share", None]
    assert whole.value < 1 and isinstance(whole.controls["random_twin"], float)
    cost = named[MEAN, None]
    assert cost.better == "lower" and cost.value > 0
    assert cost.controls["ceiling_whole_logits"] > 0


def test_three_metrics_rest_on_one_look_at_each_model(monkeypatch):
    looked = []
    look = lambda system, texts: looked.append(system) or measure(system, texts)
    monkeypatch.setattr("pellucid.eval.causal.logit_share.measure", look)
    bench = a_bench(a_transformer("rms"), a_transformer("layer"))
    apart = a_bench(bench.reader.model, bench.twin.model)
    together = [score(bench) for score in (logit_share, cross_entropy_through_units_mean)]
    assert len(looked) == 2 and looked[0] is bench.reader and looked[1] is bench.twin
    again = cross_entropy_through_units_mean(apart)
    assert [s.value for s in again] == [s.value for s in together[1]] and len(looked) == 4


def test_a_model_without_write_directions_says_so():
    model = Caused(RULES, effects(VOCAB - 1))
    model.site._write = None
    (score, *_) = logit_share(a_bench(model))
    assert score.value is None and "no unit of the model has a single direction" in score.flags[0]
