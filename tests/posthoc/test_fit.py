"""Fitting coders: planted MLPs are found, losses are what they say, frozen matrices stay."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pellucid.errors import RunError
from pellucid.models import Transformer
from pellucid.posthoc.coder import Coder
from pellucid.posthoc.config import PosthocConfig
from pellucid.posthoc.fit import Fit, activations, finite, share, tune
from pellucid.posthoc.measure import Explained, measure
from pellucid.posthoc.splice import coder_parameters, splice

KINDS = ("transcoder", "skip_transcoder", "crosslayer_transcoder", "sae", "matryoshka")
ACROSS = "crosslayer_transcoder"


def stub(model: Transformer) -> SimpleNamespace:
    """A run that has a model and random rows."""

    def rows(seed, step, *, batch, context, split):
        generator = torch.Generator().manual_seed(step + (1000 if split == "val" else 0))
        tokens = torch.randint(0, model.vocab_size, (batch, context + 1), generator=generator)
        return SimpleNamespace(tokens=tokens)

    config = SimpleNamespace(model=model.config, seed=0)
    return SimpleNamespace(model=model, config=config, data=SimpleNamespace(rows=rows))


def batch(step: int) -> Tensor:
    return torch.randint(0, 40, (8, 33), generator=torch.Generator().manual_seed(step))


def fitted(model: Transformer, **fields) -> Transformer:
    config = PosthocConfig(
        **{"steps": 250, "lr": 1e-2, "k": 8, "width": 64, "dead_after": 2000} | fields
    )
    spliced = splice(stub(model), config)
    one = Fit(config, spliced)
    for step in range(config.steps):
        one.step(step, activations(model, batch(step)[:, :-1]))
    one.finish()
    return spliced


@pytest.mark.parametrize(
    ("kind", "least", "fields"),
    [
        ("transcoder", 0.99, {"k": 16, "width": 128, "steps": 300}),
        ("skip_transcoder", 0.99, {"k": 16}),
        ("transcoder", 0.99, {"k": 16, "width": 128, "steps": 300, "rule": "batch_topk"}),
        (ACROSS, 0.99, {"k": 16}),
        ("sae", 0.97, {"width": 32, "lr": 5e-3}),
        ("matryoshka", 0.94, {"width": 32, "lr": 5e-3}),
    ],
)
def test_a_planted_mlp_is_explained(planted, kind, least, fields):
    """Its eight neurons are units of a transcoder; an sae has no better truth than its directions."""
    spliced = fitted(planted, kind=kind, **fields)
    found = measure(planted, spliced, [batch(5000)])
    assert min(found.explained_variance) > least
    assert (len(found.threshold) == 2) == ("rule" in fields)
    if "rule" in fields:
        assert found.active == pytest.approx([16, 16], rel=0.1)
    assert abs(found.ce_spliced - found.ce) < 0.01
    assert 0 <= found.kl < 0.01


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_threshold_stands_for_the_strongest_of_a_batch(planted, kind):
    """It is the mean of the smallest value that batches keep (2412.06410), and keeps k on average."""
    spliced = fitted(planted, kind=kind, k=6, width=48, steps=80, rule="batch_topk")
    rows = [batch(5000 + i) for i in range(4)]
    found = measure(planted, spliced, rows)
    assert found.active[0] == pytest.approx(6, rel=0.1)
    assert min(found.explained_variance) > 0.7
    smallest = []
    for tokens in rows:
        read = activations(planted, tokens[:, :-1])[0][kind in ("sae", "matryoshka")]
        mlp = spliced.blocks[0].mlp
        pre = (read @ mlp.w_enc.T + mlp.b_enc).relu().flatten()
        smallest.append(
            float(pre.detach().sort(descending=True).values[6 * read[..., 0].numel() - 1])
        )
    assert found.threshold[0] == pytest.approx(sum(smallest) / 4, rel=0.05)


def test_too_few_units_explain_less(planted):
    found = measure(planted, fitted(planted, k=1, width=2, steps=100), [batch(5000)])
    assert max(found.explained_variance) < 0.9
    assert found.kl > 0.001


@torch.no_grad()
def test_an_identity_coder_changes_nothing_bit_for_bit(planted):
    spliced = splice(stub(planted), PosthocConfig(kind="sae", k=16, width=32))
    both = torch.cat([torch.eye(16), -torch.eye(16)])
    for block in spliced.blocks:
        block.mlp.w_enc.copy_(both)
        block.mlp.w_dec.copy_(both)
    tokens = batch(1)[:, :-1]
    assert torch.equal(spliced(tokens).logits, planted(tokens).logits)
    found = measure(planted, spliced, [batch(1)])
    assert found.ce == found.ce_spliced
    assert found.explained_variance == [1.0, 1.0]
    block.mlp.w_dec[3] *= 1.5
    assert not torch.equal(spliced(tokens).logits, planted(tokens).logits)


@torch.no_grad()
def test_all_but_the_coders_is_the_dense_models(planted):
    for kind in KINDS:
        spliced = splice(stub(planted), PosthocConfig(kind=kind, k=4, width=24))
        theirs, coders = planted.state_dict(), 0
        for layer, block in enumerate(spliced.blocks):
            coders += len(coder_parameters(block.mlp))
            block.mlp.b_dec.fill_(0.0)
            assert f"blocks.{layer}.mlp.w_out" in theirs
        for name, value in spliced.named_parameters():
            source = name.replace(".mlp.dense.", ".mlp.")
            if ".mlp." not in name or ".mlp.dense." in name:
                assert torch.equal(value, theirs[source]), name
        assert coders == (10 if kind == "skip_transcoder" else 8)


def test_explained_variance_is_centred():
    """Of vectors far from 0, their mean explains nothing, and half the deviation three quarters."""
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0)).double() + 100
    mean = x.mean(0)
    for guess, wanted in ((mean.expand_as(x), 0.0), (x, 1.0), ((x + mean) / 2, 0.75)):
        one = Explained()
        for part, half in zip(x.split(150), guess.split(150), strict=True):
            one.add(part, half)
        assert one.value() == pytest.approx(wanted, abs=1e-9)
    constant = Explained()
    constant.add(torch.ones(3, 4), torch.ones(3, 4))
    assert constant.value() is None


def coder(model: Transformer, **fields) -> tuple[Coder, Tensor, Tensor]:
    config = PosthocConfig(**{"k": 4, "width": 16} | fields)
    mlp = splice(stub(model), config).blocks[0].mlp
    one = Coder(mlp, config, torch.Generator().manual_seed(0))
    x, y = activations(model, batch(0)[:, :-1])[0]
    one.begin(y)
    return one, x, y


def test_a_matryoshkas_loss_is_the_mean_over_its_prefixes(planted):
    one, x, y = coder(planted, kind="matryoshka")
    loss = one.loss(x, y)[0]
    target = y / one.scale
    acts = one.mlp.code(target)[0].to_dense()
    total = (target - target.mean((0, 1))).square().sum()
    missed = [
        (target - acts[..., :n] @ one.mlp.w_dec[:n] - one.mlp.b_dec).square().sum() / total
        for n in (2, 4, 8, 16)
    ]
    assert float(loss.detach()) == pytest.approx(float(sum(missed).detach() / 4), rel=1e-5)


def test_prefixes_of_a_matryoshka_by_batch_are_its_first_units(planted):
    one, x, y = coder(planted, kind="matryoshka", rule="batch_topk")
    one.mlp.train()
    acts, told = one.mlp.code(y / one.scale)
    assert acts.indices is None
    assert int(told["sum/fired"].sum()) == 4 * 8 * 32  # k for each of the batch's tokens
    missed = [
        (y / one.scale - acts.values[..., :n] @ one.mlp.w_dec[:n] - one.mlp.b_dec).square().sum()
        for n in (2, 4, 8, 16)
    ]
    target = y / one.scale
    total = (target - target.mean((0, 1))).square().sum()
    wanted = float((sum(missed) / 4 / total).detach())
    assert float(one.loss(x, y)[0].detach()) == pytest.approx(wanted, rel=1e-5)


def test_silent_units_learn_from_the_auxiliary_loss_alone(planted):
    gradients = {}
    for weight in (0.0, 1 / 32):
        one, x, y = coder(planted, kind="sae", aux_weight=weight, dead_after=10)
        with torch.no_grad():
            # It speaks, but never among the four strongest.
            one.mlp.w_enc[3] *= 0.01
            one.mlp.b_enc[3] = 1e-3
            one.mlp.silent_for[3] = 10
        assert not (one.mlp.code(y / one.scale)[0].indices == 3).any()
        one.loss(x, y)[0].backward()
        gradients[weight] = float(one.mlp.w_dec.grad[3].abs().sum())
    assert gradients[0.0] == 0.0
    assert gradients[1 / 32] > 0


def test_a_frozen_matrix_stays_as_it_was_drawn(planted):
    for frozen, other in (("decoder", "w_enc"), ("encoder", "w_dec")):
        start = fitted(planted, frozen=frozen, steps=1, lr=1e-12, kind="sae").blocks[0].mlp
        end = fitted(planted, frozen=frozen, steps=30, kind="sae").blocks[0].mlp
        name = {"decoder": "w_dec", "encoder": "w_enc"}[frozen]
        assert torch.equal(getattr(start, name), getattr(end, name))
        assert not torch.allclose(getattr(start, other), getattr(end, other), rtol=0.01)


def test_a_frozen_dictionary_explains_less_than_a_fitted_one(planted):
    values = {
        frozen: measure(
            planted, fitted(planted, frozen=frozen, k=4, width=32, steps=100), [batch(5000)]
        )
        for frozen in ("none", "decoder")
    }
    means = {name: sum(one.explained_variance) / 2 for name, one in values.items()}
    assert means["none"] > means["decoder"] + 0.05


def test_the_same_seed_gives_the_same_bits_and_another_one_others(planted):
    states = [fitted(planted, steps=5, seed=seed).state_dict() for seed in (0, 0, 1)]
    name = "blocks.1.mlp.w_enc"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_tuning_brings_the_spliced_model_closer_to_the_dense_one(planted):
    for kind in ("transcoder", ACROSS):
        config = PosthocConfig(kind=kind, k=2, width=16, steps=60, kl_steps=60, kl_lr=3e-3, batch=8)
        spliced = fitted(planted, kind=kind, k=2, width=16, steps=60)
        before, rows = measure(planted, spliced, [batch(5000)]), []
        theirs = spliced.embedding.weight.clone()
        tune(stub(planted), config, spliced, rows.append)
        after = measure(planted, spliced, [batch(5000)])
        assert after.kl < 0.8 * before.kl
        assert torch.equal(spliced.embedding.weight, theirs)
        assert [row["step"] for row in rows] == [110, 120]


def test_a_threshold_follows_while_coders_are_tuned(planted):
    """A fixed one would let other than k units speak once the coders have moved."""
    fields = {"k": 4, "width": 32, "steps": 60, "rule": "batch_topk"}
    spliced, config = (
        fitted(planted, **fields),
        PosthocConfig(**fields, kl_steps=60, kl_lr=2e-2, batch=8),
    )
    before = measure(planted, spliced, [batch(5000)])
    tune(stub(planted), config, spliced, lambda row: None)
    after = measure(planted, spliced, [batch(5000)])
    assert not any(block.mlp.training for block in spliced.blocks)
    assert after.threshold != before.threshold
    assert after.active == pytest.approx([4, 4], rel=0.15)


def test_the_rate_rises_stays_and_falls():
    assert [share(step, 20) for step in (0, 10, 15, 16, 17, 19)] == [1, 1, 1, 1, 0.75, 0.25]
    assert share(0, 100) == pytest.approx(0.2)


def test_a_loss_that_is_not_finite_is_refused():
    with pytest.raises(RunError, match="loss is nan at step 3: try a lower lr"):
        finite(torch.tensor(float("nan")), 3)
