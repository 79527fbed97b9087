"""AbsTopK at the eight sites: exact counts, gradients, refusals."""

import pytest
import torch

from pellucid.errors import ConfigError
from pellucid.experiments import run_config
from pellucid.models import ModelConfig, Transformer, record
from pellucid.models.attention import ATTENTIONS
from pellucid.models.mlp import MLPS
from pellucid.models.sparsity import PLACES, SPARSITIES, largest

SITES = {
    "attn_in": "attn_in",
    "q": "attention.q",
    "k": "attention.k",
    "v": "attention.v",
    "attn_out": "attn_out",
    "mlp_in": "mlp_in",
    "mlp_neuron": "mlp",
    "mlp_out": "mlp_out",
}


def sparse(mlp=None, attention="softmax", **fields) -> Transformer:
    config = ModelConfig(
        n_layers=2,
        d_model=16,
        context=24,
        mlp=mlp or MLPS["dense"].Config(width=48),
        attention=ATTENTIONS[attention].Config(sink=True),
        site_sparsity=SPARSITIES["abs_topk"].Config(**fields),
    )
    return Transformer(config, vocab_size=61, seed=1).double().eval()


def test_every_place_passes_exactly_its_share(tokens):
    assert set(SITES) == set(PLACES)
    model = sparse()
    names = [f"blocks.{layer}.{site}" for layer in range(2) for site in SITES.values()]
    with record(model, names) as trace:
        logits = model(tokens).logits
    for name in names:
        channels = 48 if name.endswith(".mlp") else 16
        assert (trace[name].count == channels // 4).all(), name
    assert torch.allclose(logits, model(tokens).logits, atol=1e-12)


def test_only_the_named_places_are_sparse(tokens):
    model = sparse(places=("mlp_in",))
    with record(model, ["blocks.0.mlp_in", "blocks.0.attn_in"]) as trace:
        model(tokens)
    assert (trace["blocks.0.mlp_in"].count == 4).all()
    assert (trace["blocks.0.attn_in"].count == 16).all()


def test_the_largest_by_magnitude_stay_and_alone_get_a_gradient():
    x = torch.tensor([[[1.0, -3.0, 0.5, 2.0, -2.0]]], dtype=torch.float64, requires_grad=True)
    y = largest(x, 3, signed=True)
    assert y.tolist() == [[[0.0, -3.0, 0.0, 2.0, -2.0]]]
    y.sum().backward()
    assert x.grad.tolist() == [[[0.0, 1.0, 0.0, 1.0, 1.0]]]
    assert largest(torch.ones(1, 1, 4), 2, signed=True).tolist() == [[[1.0, 1.0, 0.0, 0.0]]]


def test_the_sink_is_one_more_column_of_the_softmax(tokens):
    model = sparse()
    attention = model.blocks[0].attention
    with torch.no_grad():
        attention.sink.copy_(torch.tensor([0.3, -1.0, 2.0, 0.0]))
    x = torch.randn(1, 5, 16, dtype=torch.float64)
    q, k, v = attention._read(x, None, None)
    scores = (q @ k.mT / 2).masked_fill(~torch.ones(5, 5).tril().bool(), -torch.inf).exp()
    shares = scores / (scores.sum(-1, keepdim=True) + attention.sink.exp()[:, None, None])
    assert torch.allclose(attention(x)[0], attention._write(shares @ v))


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (
            {"mlp": MLPS["topk"].Config(width=48, k=5)},
            "layer 0 has no mlp_neuron; attn_in, q, k, v, attn_out, mlp_in, mlp_out are accepted",
        ),
        ({"attention": "subspace"}, "layer 0 has no q; attn_in, attn_out"),
        ({"share": 0.0}, "share"),
        ({"places": ("resid",)}, "places"),
    ],
)
def test_what_cannot_work_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        sparse(**changes)


def test_channels_that_pass_bring_the_rate_they_learn_at_and_words_still_decide():
    words = ["tiny", "mlp=dense", "site_sparsity=abs_topk"]
    assert run_config(words).train.lr == 0.0128
    assert run_config([*words, "train.lr=1e-3"]).train.lr == 1e-3
