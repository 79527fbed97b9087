"""PEER against its definition: every expert of every head, one token at a time."""

import pytest
import torch
import torch.nn.functional as F
from support.layers import ablation_error, gates_by_hand, normal
from support.small import first_write, small_model
from support.small import small_layer as layer

from pellucid.config import TrainConfig
from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS
from pellucid.models.mlp.peer import PeerMLP
from pellucid.training.optimizers import Optimizers
from pellucid.training.step import after_step


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_layer_is_the_sum_over_its_chosen_experts(activation):
    mlp, x = layer("peer", activation=activation), normal(2, 5, 16)
    act = F.gelu if activation == "gelu" else F.relu
    values = gates_by_hand(mlp, x.flatten(0, 1)) * act(x.flatten(0, 1) @ mlp.w_in.T)
    expected = (values @ mlp.w_out + mlp.b_out).view(2, 5, 16)
    assert torch.allclose(mlp(x)[0], expected, atol=1e-12)
    assert torch.allclose(mlp.encode(x)[0].to_dense(), values.view(2, 5, 49), atol=1e-12)


def test_an_expert_that_several_heads_choose_speaks_once_with_the_sum_of_its_gates():
    mlp, x = layer("peer"), normal(2, 5, 16)
    apart = mlp.encode(x)[0]
    assert apart.count.max() > mlp.config.k  # heads of their own choose different experts
    with torch.no_grad():
        mlp.keys.keys[1] = mlp.keys.keys[0]
        mlp.keys.w_query[8:] = mlp.keys.w_query[:8]
    acts, told = mlp.encode(x)
    assert (acts.count == mlp.config.k).all()
    gates = gates_by_hand(mlp, x.flatten(0, 1))
    assert torch.allclose(gates.sum(-1), torch.full((10,), 2.0).double())
    hidden = F.gelu(x.flatten(0, 1) @ mlp.w_in.T)
    assert torch.allclose(acts.to_dense().view(10, 49), gates * hidden, atol=1e-12)
    assert torch.equal(told["sum/load"], 2 * told["sum/fired"])
    assert int(told["sum/fired"].sum()) == 10 * mlp.config.k


class Normalized(PeerMLP):
    """Not unit-ablation-exact: what remains is scaled to fill the room of what is missing."""

    def decode(self, acts):
        y = super().decode(acts)
        return y / y.norm(dim=-1, keepdim=True)


def test_removing_an_expert_removes_exactly_what_it_wrote():
    mlp, x = layer("peer"), normal(4, 8, 16)
    chosen = mlp.encode(x)[0].indices[0, 0, :2].tolist()
    rows = x.flatten(0, 1)
    values = gates_by_hand(mlp, rows) * F.gelu(rows @ mlp.w_in.T)
    written = (values[:, chosen] @ mlp.w_out[chosen]).view(4, 8, 16)
    assert mlp.site.exactness == "unit-ablation-exact"
    assert ablation_error(mlp, x, chosen, written) < 1e-12
    mlp.__class__ = Normalized
    assert ablation_error(mlp, x, chosen, written) > 1e-3


def test_the_number_of_experts_follows_the_width_of_the_model():
    config = MLPS["peer"].Config()
    assert config.resolved_width(128) == 64**2
    assert config.resolved_width(200) == 80**2


def test_directions_are_the_rows_of_the_tables():
    mlp = layer("peer")
    assert torch.equal(mlp.site.read_directions(), mlp.w_in)
    assert torch.equal(mlp.site.write_directions(), mlp.w_out)


@pytest.mark.parametrize(
    "fields",
    [
        {"n_experts": 64, "k": 1, "n_heads": 1},
        {"n_experts": 64, "k": 8, "n_heads": 8},
        {"n_experts": 1024, "k": 4, "n_heads": 4, "query_norm": "batch"},
        {"n_experts": 4096, "k": 16, "n_heads": 2, "activation": "relu"},
        {"n_experts": 4096, "k": 64, "n_heads": 8},
        {},
    ],
)
def test_writes_start_with_the_size_of_the_dense_baseline(fields):
    size = first_write("peer", **fields)
    assert size == pytest.approx(first_write("dense"), rel=0.2)


def test_cost_is_counted_by_hand():
    """d 16, 49 experts, 2 heads of 8 key channels, 3 experts each, 7 keys in each half."""
    cost = layer("peer").cost(10)
    router = 16 * 16 + 2 * 2 * 7 * 4
    assert cost.active == router + 2 * 3 * (16 + 16) + 16
    assert cost.executed == cost.ideal == 2 * router + 2 * (2 * 3 * (16 + 16))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_experts": 50}, "n_experts is 50; .* 49 or 64"),
        ({"n_experts": 49, "k": 8}, "k is 8; at most 7"),
        ({"n_heads": 3}, "n_heads is 3; a divisor of d_model / 2"),
        ({"d_key": 5}, "d_key is 5; an even number"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(fields, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(d_model=16, mlp=MLPS["peer"].Config(**fields))


def test_what_experts_write_learns_at_a_rate_of_its_own():
    model = small_model("peer", fields={"write_lr": 3.0})
    groups = Optimizers(model, TrainConfig(lr=1e-3)).all[0].param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for block in model.blocks:
        assert rates[id(block.mlp.w_out)] == 3e-3
        assert rates[id(block.mlp.w_in)] == rates[id(block.mlp.keys.keys)] == 1e-3


def test_what_the_keys_tell_reaches_them():
    config = ModelConfig(d_model=16, mlp=MLPS["peer"].Config(n_experts=49, k=3, query_norm="batch"))
    model = Transformer(config, vocab_size=8).double().train()
    told = model(torch.arange(8)[None]).told
    after_step(model, told, 8)
    for block in model.blocks:
        keys = block.mlp.keys
        assert float(keys.query_mean.abs().max()) > 0
        assert not torch.equal(keys.query_square, torch.ones_like(keys.query_square))
        assert block.mlp.silent_for.max() == 8
