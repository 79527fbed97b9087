"""Mixtures of experts against one wide MLP, their routers and their balance."""

import pytest
import torch
import torch.nn.functional as F
from support.layers import ablation_error, normal
from support.small import first_write
from support.small import small_layer as layer

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig
from pellucid.models.mlp import MLPS
from pellucid.models.mlp.moe import MoEMLP

ROUTERS = ["switch", "moe_x"]


def shares(mlp, x: torch.Tensor) -> torch.Tensor:
    """The router's softmax, an expert at a time: `(…, expert)`."""
    if mlp.config.router == "switch":
        return (x @ mlp.w_route.T).softmax(-1)
    logits = []
    for rows, bias in zip(mlp.w_in.split(8), mlp.b_in.split(8), strict=True):
        mean = x @ rows.mean(0) + bias.mean()
        variance = x**2 @ (rows - rows.mean(0)).square().mean(0) + bias.var(correction=0)
        logits.append(-(8**0.5) * torch.distributions.Normal(0, 1).cdf(mean / variance.sqrt()))
    return torch.stack(logits, -1).softmax(-1)


def wide_values(mlp, x: torch.Tensor, k: int) -> torch.Tensor:
    """`gate ⊙ act(W_in x + b_in)` over all neurons, gates 0 where the expert is not chosen."""
    p = shares(mlp, x)
    gates = torch.where(p >= p.topk(k).values[..., -1:], p, 0.0)
    act = F.relu if mlp.config.activation == "relu" else F.gelu
    return gates.repeat_interleave(8, -1) * act(x @ mlp.w_in.T + mlp.b_in)


@pytest.mark.parametrize("k", [1, 2, 6])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("router", ROUTERS)
def test_the_layer_is_one_wide_sparse_mlp(router, activation, k):
    mlp, x = layer("moe", router=router, activation=activation, k=k), normal(2, 5, 16)
    values = wide_values(mlp, x, k)
    assert torch.allclose(mlp(x)[0], values @ mlp.w_out + mlp.b_out, atol=1e-12)
    assert torch.allclose(mlp.encode(x)[0].to_dense(), values, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 6])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_an_expert_at_a_time_gives_what_a_neuron_at_a_time_gives(activation, k):
    """In training, to rounding: outputs, what is told, and every gradient."""
    mlp, x = layer("moe", activation=activation, k=k).train(), normal(3, 7, 16).requires_grad_()
    with torch.no_grad():
        mlp.b_in[8:16] = -20.0  # an expert whose neurons are silent
        mlp.w_route[3] = 0.0  # and one that is rarely chosen
    weights, found = normal(3, 7, 16, seed=1), []
    for path in (mlp, mlp.split):
        y, told = path(x)
        loss = (y * weights).sum() + told["loss/balance"]
        found.append((y, told, torch.autograd.grad(loss, [x, *mlp.parameters()])))
    (y, told, grads), (y_split, told_split, grads_split) = found
    assert torch.allclose(y, y_split, atol=1e-13)
    assert told.keys() == told_split.keys()
    assert all(torch.equal(told[key], told_split[key]) for key in ("sum/load", "sum/fired"))
    for a, b in zip(grads, grads_split, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("router", ROUTERS)
def test_gradients_are_those_of_the_wide_mlp(router):
    mlp, x = layer("moe", router=router), normal(2, 5, 16).requires_grad_()
    weights = normal(2, 5, 16, seed=1)
    inputs = [x, *mlp.parameters()]
    got = torch.autograd.grad((mlp(x)[0] * weights).sum(), inputs)
    wide = wide_values(mlp, x, 2) @ mlp.w_out + mlp.b_out
    for a, b in zip(got, torch.autograd.grad((wide * weights).sum(), inputs), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_the_expected_share_is_that_of_experts_with_gaussian_weights():
    mlp = layer("moe", router="moe_x", n_experts=2, width=40_000, k=1)
    with torch.no_grad():
        mlp.w_in += 0.1 * normal(1, 16, seed=3)
    x = normal(4, 16)
    seen = (x @ mlp.w_in.T + mlp.b_in > 0).double().unflatten(1, (2, -1)).mean(-1)
    assert torch.allclose(mlp.expected_share(x), seen, atol=0.01)


def test_moe_x_prefers_the_expert_of_which_fewest_neurons_fire():
    mlp, x = layer("moe", router="moe_x", k=1), normal(1, 64, 16)
    with torch.no_grad():
        mlp.b_in[16:24] = -20.0
    _, told = mlp.encode(x)
    assert told["sum/load"].tolist() == [0, 0, 64, 0, 0, 0]


def test_balance_pulls_tokens_from_experts_of_much_load_and_adds_up_over_a_split_batch():
    mlp, x = layer("moe"), normal(4, 6, 16)
    _, told = mlp.encode(x)
    assert float(told["loss/balance"].detach()) == pytest.approx(0.01)  # an even load: no pull
    assert int(told["sum/load"].sum()) == 2 * 24
    load = told["sum/load"].double() / 48
    mlp.after_step(told, tokens=24)
    assert torch.allclose(mlp.load, 0.9 / 6 + 0.1 * load, atol=1e-7)
    with torch.no_grad():
        mlp.load.copy_(torch.tensor([1.0, 0, 0, 0, 0, 0]))
    loss, share = mlp.encode(x)[1]["loss/balance"], shares(mlp, x)[..., 0].mean().detach()
    assert float(loss.detach()) == pytest.approx(0.01 * 6 * float(share))
    to_router = torch.autograd.grad(loss, mlp.w_route)[0]
    halves = [mlp.encode(part)[1]["loss/balance"] for part in x.split(2)]
    assert float(sum(halves).detach() / 2) == pytest.approx(float(loss.detach()))
    with torch.no_grad():
        mlp.w_route -= to_router
    assert shares(mlp, x)[..., 0].mean() < share


class Crowded(MoEMLP):
    """Not unit-ablation-exact: the neurons of a token share one normalization."""

    def decode(self, acts):
        y = super().decode(acts)
        return y / y.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("router", ROUTERS)
def test_removing_a_neuron_removes_exactly_what_it_wrote(router):
    mlp, x = layer("moe", router=router), normal(4, 8, 16)
    units = mlp.encode(x)[0].indices[0, 0, :3].tolist()
    written = wide_values(mlp, x, 2)[..., units] @ mlp.w_out[units]
    assert mlp.site.exactness == "unit-ablation-exact"
    assert ablation_error(mlp, x, units, written) < 1e-12
    mlp.__class__ = Crowded
    assert ablation_error(mlp, x, units, written) > 1e-3


@pytest.mark.parametrize("router", ROUTERS)
def test_no_token_is_dropped_where_all_want_the_same_experts(router):
    mlp = layer("moe", router=router).train()
    x = normal(1, 1, 16).expand(1, 500, 16) + 1e-9 * normal(1, 500, 16, seed=4)
    _, told = mlp.encode(x)
    assert sorted(told["sum/load"].tolist()) == [0, 0, 0, 0, 500, 500]
    assert mlp.causal_in_training
    assert torch.allclose(mlp(x)[0], mlp(x[:, :1])[0].expand_as(x), atol=1e-6)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize(
    "fields",
    [
        {"n_experts": 1, "k": 1},
        {"n_experts": 64, "k": 8, "width": 512},
        {"n_experts": 4, "k": 1, "activation": "gelu"},
        {"n_experts": 16, "k": 16, "width": 2048},
        {},
    ],
)
def test_writes_start_with_the_size_of_the_dense_baseline(router, fields):
    size = first_write("moe", router=router, **fields)
    assert size == pytest.approx(first_write("dense"), rel=0.2)


def test_cost_is_counted_by_hand():
    """d 16, 6 experts of 8 neurons, 2 run."""
    cost = layer("moe").cost(10)
    assert cost.active == 6 * 16 + 16 * (16 + 1 + 16) + 16
    assert cost.executed == 2 * (6 * 16) + 2 * (2 * 8 * 2 * 16)
    assert layer("moe", router="moe_x").cost(10).active == cost.active + 6 * 16


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 17}, "k is 17; at most mlp.n_experts, 16"),
        ({"width": 100}, "width is 100; a multiple of mlp.n_experts, 16"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(fields, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(d_model=16, mlp=MLPS["moe"].Config(**fields))
