"""The fillings of the head slot: the stated sums, on real modules in float64."""

import pytest
import torch
import torch.nn.functional as F
from support.small import VOCAB

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, Transformer, ablate, intervene, record, scale, set_to
from pellucid.models.head import HEADS
from pellucid.models.mlp import MLPS

FIELDS = {
    "unembed": {},
    "backpack": {"n_senses": 4},
    "concept": {"n_known": 3, "n_free": 20, "k_free": 4},
}


def headed(tag: str, *, seed: int = 4, **fields) -> Transformer:
    config = ModelConfig(
        n_layers=2,
        d_model=16,
        context=24,
        mlp=MLPS["topk"].Config(width=48, k=5),
        head=HEADS[tag].Config(**FIELDS[tag] | fields),
    )
    return Transformer(config, vocab_size=VOCAB, seed=seed).double().eval()


@pytest.fixture(params=list(HEADS))
def head_model(request) -> Transformer:
    return headed(request.param, bigram=True)


def side_of(tokens) -> dict[str, torch.Tensor]:
    """Bits 0 to 2, and a fourth that no head of three concepts learns; some are not known."""
    bits = (tokens % 2 == 0) * 1 + (tokens % 3 == 0) * 2 + (tokens < 9) * 4 + (tokens > 3) * 8
    return {"labels": torch.where(tokens % 7 == 5, -1, bits)}


def test_every_parameter_learns_and_recording_changes_nothing(head_model, tokens):
    sites = [name for name in head_model.sites() if name.startswith("head")]
    with record(head_model, sites) as trace:
        logits = head_model(tokens).logits
    assert set(trace) == set(sites)
    assert torch.allclose(logits, head_model(tokens).logits, atol=1e-12)
    if isinstance(head_model.head, HEADS["concept"]):
        head_model.head.before_step(0.2)  # while all is let through, no concept has a say
    out = head_model(tokens, side=side_of(tokens))
    loss = F.cross_entropy(out.logits.flatten(0, 1), tokens.flatten())
    (loss + sum(v for k, v in out.told.items() if "loss/" in k)).backward()
    silent = [n for n, p in head_model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_parts_of_the_logits_add_up(head_model, tokens):
    parts = head_model.logit_parts(tokens)
    assert "bigram" in parts and len(parts) > 1
    assert torch.allclose(sum(parts.values()), head_model(tokens).logits, atol=1e-10)


def test_a_bigram_table_adds_what_the_current_token_alone_decides(tokens):
    model = headed("unembed", bigram=True)
    before = model(tokens).logits
    with torch.no_grad():
        model.head.bigram[tokens[0, 3], 7] += 2.5
    change = model(tokens).logits - before
    expected = torch.zeros_like(change)
    expected[tokens == tokens[0, 3], 7] = 2.5
    assert torch.allclose(change, expected)


def test_senses_know_nothing_of_their_context_and_explain_every_logit_exactly(tokens):
    model = headed("backpack")
    logits = model(tokens).logits
    hidden = model._hidden(tokens, None)[0]
    shares = model.head.contributions(hidden, tokens, tokens)
    assert shares.shape == (3, 4, 24, 24)
    own = logits.gather(-1, tokens[..., None])[..., 0]
    assert torch.allclose(shares.sum((1, 3)), own)
    with record(model, "head.senses") as trace:
        model(tokens)
    alpha = trace["head.senses"].values
    assert (alpha >= 0).all() and torch.allclose(alpha.sum(-1), torch.ones_like(alpha.sum(-1)))
    senses = model.head.senses(tokens)  # one vector per token and sense, wherever it stands
    word = torch.einsum("v d, b s h d -> b h s v", model.head.weight, senses)
    assert torch.allclose(torch.einsum("b h t s, b h s v -> b t v", alpha, word), logits)


def test_ablating_a_sense_removes_exactly_its_part(tokens):
    model = headed("backpack")
    parts, logits = model.logit_parts(tokens), model(tokens).logits
    with intervene(model, {"head.senses": ablate([2])}):
        without = model(tokens).logits
    assert torch.allclose(logits - without, parts["sense 2"], atol=1e-12)


def test_a_senses_strength_is_the_norm_of_what_it_writes_and_is_edited_exactly(tokens):
    model = headed("backpack")
    with torch.no_grad():
        model.head.sense_out[:16] = 0  # the first sense writes nothing
        model.head.b_sense_out[:16] = 0
    parts, logits = model.logit_parts(tokens), model(tokens).logits
    with record(model, ["head.senses", "head.strengths"]) as trace:
        model(tokens)
    written = torch.einsum(
        "bhts,bshd->bthd", trace["head.senses"].values, model.head.senses(tokens)
    )
    strengths = trace["head.strengths"].values
    assert strengths.shape == (3, 24, 4) and not strengths[..., 0].any()
    assert torch.allclose(strengths, written.norm(dim=-1), atol=1e-14)
    with intervene(model, {"head.strengths": ablate([2])}):
        assert torch.allclose(logits - model(tokens).logits, parts["sense 2"], atol=1e-12)
    with intervene(model, {"head.strengths": scale(3.0, [1], positions=[5])}):
        added = model(tokens).logits - logits
    expected = torch.zeros_like(added)
    expected[:, 5] = 2 * parts["sense 1"][:, 5]
    assert torch.allclose(added, expected, atol=1e-12)
    with intervene(model, {"head.strengths": set_to(2.0, [0])}):
        same = torch.allclose(model(tokens).logits, logits, atol=1e-12)
        assert same, "what is 0 has no direction"


def test_strengths_are_edited_at_absolute_positions_in_cached_generation(tokens):
    model = headed("backpack")
    prompt = tokens[:1, :6]
    with intervene(model, {"head.strengths": scale(-20.0, [1], positions=[7])}):
        made = model.generate(prompt, 4, temperature=0)
        again = model(made[:, :-1]).logits.argmax(-1)[:, 5:]
    assert torch.equal(made[:, 6:], again)
    assert not torch.equal(made, model.generate(prompt, 4, temperature=0))


def test_the_concept_heads_code_is_sparse_and_known_concepts_are_taught(tokens):
    model = headed("concept").train()
    out = model(tokens, side=side_of(tokens))
    x = model._hidden(tokens, None)[0]
    scores = F.linear(x, model.head.concepts_in, model.head.b_enc)
    known = tokens % 7 != 5
    held = torch.stack([tokens % 2 == 0, tokens % 3 == 0, tokens < 9], dim=-1).double()
    p = scores[..., :3].sigmoid()
    nats = -(held * p.log() + (1 - held) * (1 - p).log()).mean(-1)
    loss = nats[known].mean() * known.double().mean()
    assert known.any() and not known.all()
    assert torch.allclose(out.told["head.loss/concepts"], 0.1 * loss, rtol=1e-12)
    assert model.head.known == ("in_string", "in_comment", "in_brackets")
    assert "head.loss/concepts" not in model(tokens).told
    with record(model, "head.concepts") as trace:
        model(tokens)
    dense = trace["head.concepts"].to_dense()
    assert torch.allclose(dense[..., :3], scores[..., :3].sigmoid())
    assert ((dense[..., 3:] > 0).sum(-1) <= 4).all()
    kept = scores[..., 3:].relu() * (scores[..., 3:] >= scores[..., 3:].topk(4).values[..., -1:])
    assert torch.allclose(dense[..., 3:], kept)


def test_what_concepts_leave_out_fades_and_its_share_is_told(tokens):
    model = headed("concept", epsilon=0.25, anneal=0.5)
    shares = []
    for progress, alpha in ((0.0, 0.9), (0.25, 0.575), (0.5, 0.25), (1.0, 0.25)):
        model.head.before_step(progress)
        assert float(model.head.alpha) == pytest.approx(alpha)
        shares.append(float(model(tokens).told["head.mean/epsilon_share"]))
    assert shares[0] > shares[1] > shares[2] == shares[3] > 0
    model.head.alpha.fill_(0.0)
    assert float(model(tokens).told["head.mean/epsilon_share"]) == 0.0


def test_at_full_weight_the_bottleneck_is_none_until_it_is_edited(tokens):
    """Composed, code and rest are the stream; an edit moves the logits by what it writes."""
    model = headed("concept")
    model.head.alpha.fill_(1.0)
    x = model._hidden(tokens, None)[0]
    assert torch.allclose(model(tokens).logits, model.head.project(x))
    with record(model, "head.concepts") as trace:
        model(tokens)
    old = trace["head.concepts"].to_dense()[..., 1:2]
    with intervene(model, {"head.concepts": set_to(2.0, [1])}):
        edited = model(tokens).logits
    moved = (2.0 - old) * model.head.project(model.head.concepts_out[1])
    assert torch.allclose(edited - model.head.project(x), moved)


@pytest.mark.parametrize(
    "build, sentence",
    [
        (lambda: headed("backpack", n_senses=3), r"n_senses is 3; a divisor of d_model \(16\)"),
        (lambda: headed("concept", k_free=21), "k_free is 21; at most n_free, 20"),
    ],
)
def test_what_cannot_work_is_refused(build, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build()


def test_what_known_concepts_are_taught_adds_up_over_micro_batches(tokens):
    model = headed("concept").train()
    side = side_of(tokens)
    whole = model(tokens, side=side).told["head.loss/concepts"]
    rows = [
        model(t, side={"labels": s})
        for t, s in zip(tokens.split(1), side["labels"].split(1), strict=True)
    ]
    parts = torch.stack([row.told["head.loss/concepts"] for row in rows])
    assert torch.allclose(parts.mean(), whole, rtol=1e-12)
    unknown = {"labels": torch.full_like(tokens, -1)}
    assert model(tokens, side=unknown).told["head.loss/concepts"] == 0
