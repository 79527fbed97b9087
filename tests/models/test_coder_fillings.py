"""The fillings that post-hoc coders take: skip_topk, sae, and the crosslayer stream."""

import pytest
import torch
import torch.nn.functional as F
from support.layers import ablation_error, normal
from support.small import filled, inputs, small_layer

from pellucid.errors import ConfigError
from pellucid.models import Transformer, ablate, intervene, record
from pellucid.models.config import ModelConfig
from pellucid.models.mlp import MLPS
from pellucid.models.mlp.crosslayer import CrossLayerMLP
from pellucid.models.stream import STREAMS

VOCAB = 11


def coded(x, mlp):
    """relu(topk(x W_enc + b_enc)) W_dec + b_dec, in full matrices."""
    pre = F.linear(x, mlp.w_enc, mlp.b_enc)
    kept = pre >= pre.topk(mlp.config.k, dim=-1).values[..., -1:]
    return (pre * kept).relu() @ mlp.w_dec + mlp.b_dec


def test_a_skip_layer_adds_a_linear_map_of_its_input():
    mlp, x = small_layer("skip_topk"), inputs(2, 5)
    with torch.no_grad():
        assert torch.allclose(mlp(x)[0], coded(x, mlp))  # the linear part starts at 0
        mlp.w_skip.copy_(normal(16, 16, seed=4))
    assert torch.allclose(mlp(x)[0], coded(x, mlp) + x @ mlp.w_skip.T)
    assert torch.equal(mlp(x)[0], mlp.split(x)[0])


def test_an_sae_codes_what_its_dense_mlp_writes():
    mlp, x = small_layer("sae", hidden=24), inputs(2, 5)
    dense = mlp.dense
    written = F.gelu(x @ dense.w_in.T + dense.b_in) @ dense.w_out + dense.b_out
    assert dense.w_in.shape == (24, 16)
    assert torch.allclose(mlp(x)[0], coded(written, mlp))
    assert mlp.site.read_directions() is None


def test_ablating_a_unit_of_an_sae_removes_exactly_what_it_wrote_and_of_a_gelu_mlp_by_no_rule():
    mlp, x = small_layer("sae"), normal(1, 6, 16)
    acts = mlp.encode(x)[0].to_dense()
    units = acts.sum((0, 1)).topk(3).indices.tolist()
    written = acts[..., units] @ mlp.w_dec[units]
    assert ablation_error(mlp, x, units, written.detach()) < 1e-12
    assert ablation_error(mlp, x, units, 1.01 * written.detach()) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("tag", ["skip_batch_topk", "sae_batch_topk"])
def test_a_coder_by_batch_keeps_the_largest_of_the_batch_and_then_those_above_a_threshold(tag):
    mlp, x = small_layer(tag), inputs(2, 5)
    read = mlp.dense(x)[0] if "sae" in tag else x
    skipped = 0 if "sae" in tag else x @ mlp.w_skip.normal_().T
    pre = F.linear(read, mlp.w_enc, mlp.b_enc).relu()
    smallest = pre.flatten().sort(descending=True).values[5 * 2 * 5 - 1]
    y, told = mlp.train()(x)
    assert torch.allclose(y, pre * (pre >= smallest) @ mlp.w_dec + mlp.b_dec + skipped)
    assert told["mean/threshold"] == smallest.float()
    mlp.eval().threshold.fill_(float(pre.median()) + 0.1)
    kept = pre * (pre >= mlp.threshold)
    assert torch.allclose(mlp(x)[0], kept @ mlp.w_dec + mlp.b_dec + skipped)
    assert torch.equal(mlp(x)[0], mlp.split(x)[0])


def test_an_sae_starts_from_a_dense_mlp_by_taking_it_as_its_own():
    dense, mlp = small_layer("dense", width=64), small_layer("sae")
    taken = mlp.take_dense(dense.w_in, dense.b_in, dense.w_out, dense.b_out)
    assert taken == ("dense.w_in", "dense.b_in", "dense.w_out", "dense.b_out")
    assert torch.allclose(mlp(inputs(1, 4))[0], coded(dense(inputs(1, 4))[0], mlp))


def crosslayer() -> Transformer:
    return Transformer(filled("stream=crosslayer"), vocab_size=VOCAB, seed=3).double().eval()


TOKENS = torch.randint(0, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_units_write_to_their_own_layer_and_to_later_ones():
    model = crosslayer()
    names = [f"blocks.{i}.{place}" for i in (0, 1) for place in ("mlp_in", "mlp_out")]
    with record(model, names) as trace:
        model(TOKENS)
    first, second = (block.mlp for block in model.blocks)
    assert (first.w_dec.shape, second.w_dec.shape) == ((48, 32), (48, 16))
    from_first = coded(trace["blocks.0.mlp_in"].values, first)
    from_second = coded(trace["blocks.1.mlp_in"].values, second)
    assert torch.allclose(trace["blocks.0.mlp_out"].values, from_first[..., :16])
    assert torch.allclose(trace["blocks.1.mlp_out"].values, from_first[..., 16:] + from_second)
    assert float(from_first[..., 16:].abs().max()) > 0.01


@torch.no_grad()
def test_a_crosslayer_model_without_writes_to_later_layers_is_a_topk_model():
    model = crosslayer()
    model.blocks[0].mlp.w_dec[:, 16:] = 0
    plain = Transformer(filled("mlp=topk"), vocab_size=VOCAB, seed=4).double().eval()
    state = model.state_dict()
    for name, value in plain.state_dict().items():
        part = state[name]
        value.copy_(part[..., :16] if name.endswith(("w_dec", "b_dec")) else part)
    assert torch.allclose(model(TOKENS).logits, plain(TOKENS).logits, atol=1e-12)


@torch.no_grad()
def test_ablating_a_unit_takes_its_writes_to_later_layers_with_it():
    model = crosslayer()
    with record(model, ["blocks.0.mlp"]) as trace:
        model(TOKENS)
    acts = trace["blocks.0.mlp"].to_dense()
    unit = int(acts.sum((0, 1)).argmax())
    # Without the unit's row the model is another one that does the same.
    with intervene(model, {"blocks.0.mlp": ablate([unit])}):
        ablated = model(TOKENS).logits
    whole = model(TOKENS).logits
    model.blocks[0].mlp.w_dec[unit] = 0
    assert torch.allclose(ablated, model(TOKENS).logits, atol=1e-12)
    assert float((whole - ablated).abs().max()) > 1e-3


@torch.no_grad()
def test_a_crosslayer_layer_is_affine_while_the_same_units_are_active():
    mlp = CrossLayerMLP.Config(width=48, k=5, reach=3).build(16).double()
    for parameter in mlp.parameters():
        parameter.copy_(normal(*parameter.shape, seed=parameter.numel()))
    x, step = inputs(1, 1), 1e-4 * inputs(1, 1).flip(-1)
    y = [mlp(x + s)[0] for s in (step, 0 * step, -step)]
    active = [mlp.encode(x + s)[0].to_dense() != 0 for s in (step, -step)]
    assert torch.equal(*active)
    assert float((y[0] - 2 * y[1] + y[2]).abs().max()) < 1e-12
    assert torch.allclose(
        mlp.site.write_directions(), mlp.w_dec[:, :16] + mlp.w_dec[:, 16:32] + mlp.w_dec[:, 32:]
    )


def test_a_crosslayer_stream_brings_its_mlps():
    with pytest.raises(ConfigError, match="stream=crosslayer brings the mlp itself"):
        ModelConfig(
            stream=STREAMS["crosslayer"].Config(), per_layer={"mlp@0": MLPS["dense"].Config()}
        )
