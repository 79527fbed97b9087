"""The fillings of the stream slot: what each claims, on real modules in float64."""

import pytest
import torch
import torch.nn.functional as F
from support.small import VOCAB

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, Transformer, ablate, intervene, record
from pellucid.models.attention import ATTENTIONS
from pellucid.models.mlp import MLPS
from pellucid.models.norm import NORMS
from pellucid.models.stream import STREAMS

FIELDS = {"topk_stream": {"k": 5}}


def streamed(tag: str, *, attention: str = "softmax", seed: int = 3, **changes) -> Transformer:
    fields = FIELDS.get(tag, {}) | changes.pop("stream", {})
    config = ModelConfig(
        n_layers=3,
        d_model=16,
        context=24,
        mlp=MLPS["topk"].Config(width=48, k=5),
        attention=ATTENTIONS[attention].Config(**changes.pop("attend", {})),
        stream=STREAMS[tag].Config(**fields),
        **changes,
    )
    return Transformer(config, vocab_size=VOCAB, seed=seed).double().eval()


@pytest.fixture(params=list(STREAMS))
def stream_model(request) -> Transformer:
    return streamed(request.param)


def test_every_parameter_learns_and_every_site_can_be_recorded(stream_model, tokens):
    with record(stream_model, stream_model.sites()) as trace:
        logits = stream_model(tokens).logits
    assert set(trace) == set(stream_model.sites())
    assert torch.allclose(logits, stream_model(tokens).logits, atol=1e-12)
    loss = F.cross_entropy(stream_model(tokens).logits.flatten(0, 1), tokens.flatten())
    loss.backward()
    silent = [n for n, p in stream_model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_parts_of_the_logits_add_up(stream_model, tokens):
    parts = stream_model.logit_parts(tokens)
    total = sum(parts.values())
    assert torch.allclose(total, stream_model(tokens).logits, atol=1e-10)


def test_topk_stream_keeps_exactly_k_channels_but_in_the_last_layers(tokens):
    model = streamed("topk_stream", stream={"dense_last": 1})
    with record(model, [f"blocks.{i}.stream" for i in range(3)]) as trace:
        model(tokens)
    counts = [trace[f"blocks.{i}.stream"].count for i in range(3)]
    assert (counts[0] == 5).all() and (counts[1] == 5).all() and (counts[2] == 16).all()


def test_topk_streams_channels_fall_with_the_training_alone():
    block = streamed("topk_stream", stream={"anneal": 0.5}).blocks[0]
    kept = []
    for progress in (0.0, 0.1, 0.25, 0.4, 0.5, 1.0):
        block.before_step(progress)
        kept.append(block.kept)
    assert kept[0] == 16 and kept[-2:] == [5, 5] and kept == sorted(kept, reverse=True)


def test_ablating_a_channel_of_a_topk_stream_removes_all_it_carried(tokens):
    """Nothing goes round the sparse stream: the next layer gets the stream without the channel."""
    model = streamed("topk_stream")
    sites = ["blocks.0.stream", "blocks.1.attn_in"]
    with record(model, sites) as trace, intervene(model, {"blocks.0.stream": ablate([4])}):
        model(tokens)
    stream = trace["blocks.0.stream"].values
    assert (stream[..., 4] == 0).all()
    expected = model.blocks[1].attention_norm(stream)
    assert torch.equal(trace["blocks.1.attn_in"].values, expected)


def test_dual_streams_are_written_by_one_half_each(tokens):
    model = streamed("dual_stream")
    sites = ["embed", "blocks.0.stream", "blocks.0.attn_out", "blocks.0.mlp_out"]
    with record(model, sites) as trace:
        model(tokens)
    token, context = trace["blocks.0.stream"].values.chunk(2, dim=-1)
    assert torch.equal(token, trace["embed"].values + trace["blocks.0.attn_out"].values)
    assert torch.equal(context, trace["blocks.0.mlp_out"].values)
    assert set(model.logit_parts(tokens)) == {"token", "context"}


def test_values_of_dual_stream_attention_come_from_the_token_stream(tokens):
    model = streamed("dual_stream")
    with record(model, ["blocks.0.stream", "blocks.1.attention.v"]) as trace:
        model(tokens)
    token = trace["blocks.0.stream"].values.chunk(2, dim=-1)[0]
    block = model.blocks[1]
    expected = F.linear(block.value_norm(token), block.attention.w_v)
    assert torch.allclose(trace["blocks.1.attention.v"].values, expected)


@pytest.mark.parametrize("mixing", ["independent", "kronecker"])
def test_headwise_projections_are_the_stated_matrices(mixing, tokens):
    model = streamed("dual_stream", attention="headwise", attend={"n_heads": 4, "mixing": mixing})
    attention = model.blocks[0].attention
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    dense = torch.block_diag(*attention.w_v.detach())
    if mixing == "kronecker":
        with torch.no_grad():
            attention.m_v.normal_()
        dense = torch.kron(attention.m_v.detach(), torch.eye(4, dtype=torch.float64)) @ dense
    assert torch.allclose(attention._map("v", x), x @ dense.T)


def test_independent_heads_never_leave_their_channels():
    model = streamed("residual", attention="headwise", attend={"mixing": "independent"})
    attention = model.blocks[0].attention
    x = torch.randn(1, 6, 16, dtype=torch.float64)
    with torch.no_grad():
        y = attention(x)[0]
        x[..., 4:8] += 1.0  # the channels of head 1
        changed = (attention(x)[0] - y).abs().amax((0, 1)) > 0
    assert changed[4:8].all() and not changed[:4].any() and not changed[8:].any()


def test_crates_code_is_the_proximal_step_and_its_decoding_is_the_stream(tokens):
    model = streamed("crate", norm=NORMS["layer"].Config())
    sites = ["blocks.1.mlp_in", "blocks.1.mlp", "blocks.1.stream"]
    with record(model, sites) as trace:
        model(tokens)
    u, code = trace["blocks.1.mlp_in"].values, trace["blocks.1.mlp"].values
    dictionary, step, weight = model.blocks[1].mlp.w_dec, 0.1, 0.1

    def proximal(z):
        """argmin over z' >= 0 of the linearized objective plus |z' - z|²/2η: a shifted ReLU."""
        gradient = -(u - z @ dictionary) @ dictionary.T
        return (z - step * gradient - step * weight).relu()

    assert torch.allclose(code, proximal(proximal(torch.zeros_like(code))))
    assert torch.allclose(trace["blocks.1.stream"].values, code @ dictionary)
    assert (code > 0).any() and (code == 0).any()


def test_crates_first_dictionary_passes_on_what_it_reads():
    """Nothing passes by its blocks: what a layer's atoms do not say is lost to all later ones."""
    mlp = streamed("crate", stream={"width": 40, "sparsity": 0.0}).blocks[0].mlp
    lengths = mlp.w_dec.norm(dim=1)
    assert torch.allclose(lengths, torch.full_like(lengths, 2**0.5))
    assert torch.allclose(mlp.w_dec[20:], -mlp.w_dec[:20])
    x = torch.randn(1, 9, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alike = F.cosine_similarity(mlp(x)[0], x, dim=-1)
    assert alike.min() > 0.9
    torch.nn.init.normal_(
        mlp.w_dec, std=(2 / 16) ** 0.5, generator=torch.Generator().manual_seed(1)
    )
    assert F.cosine_similarity(mlp(x)[0], x, dim=-1).min() < 0.9


def test_an_atom_of_crate_writes_what_its_ablation_removes(tokens):
    model = streamed("crate")
    with record(model, ["blocks.0.mlp", "blocks.0.stream"]) as trace:
        model(tokens)
        before, code = trace["blocks.0.stream"].values, trace["blocks.0.mlp"].values
        with intervene(model, {"blocks.0.mlp": ablate([7])}):
            model(tokens)
    write = model.sites()["blocks.0.mlp"].write_directions()[7]
    gone = before - trace["blocks.0.stream"].values
    assert torch.allclose(gone, code[..., 7:8] * write)


@pytest.mark.parametrize(
    "build, sentence",
    [
        (lambda: streamed("topk_stream", stream={"k": 17}), "stream.k is 17; at most d_model, 16"),
        (lambda: streamed("topk_stream", stream={"dense_last": 3}), "leaves no sparse layer"),
        (
            lambda: streamed("dual_stream", attention="subspace"),
            "attention softmax, headwise, bilinear, codebook or gated is accepted",
        ),
        (lambda: streamed("crate", stream={"n_heads": 3}), r"a divisor of d_model \(16\)"),
        (
            lambda: streamed("crate", per_layer={"mlp@0": MLPS["dense"].Config()}),
            "stream=crate brings attention and mlp itself",
        ),
    ],
)
def test_what_cannot_work_is_refused(build, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build()
