"""Linear experts: every expert one by one, and a layer that is a matrix once its gates are known."""

import pytest
import torch
from support.small import first_write, inputs, small_layer, small_model

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, intervene, patch, record, set_to
from pellucid.models.mlp import MLPS
from pellucid.models.units import SiteState


def scores(mlp, x: torch.Tensor) -> torch.Tensor:
    """Of every expert: (batch, token, channel, expert)."""
    halves = (x @ mlp.w_query.T @ mlp.w_score.T).unflatten(-1, (2, mlp.config.channels, -1))
    first, second = halves.unbind(2)
    return (first[..., :, None] + second[..., None, :]).flatten(-2)


def gates(mlp, x: torch.Tensor) -> torch.Tensor:
    """Scores with all but the k largest of each channel at 0: (batch, token, unit)."""
    every = scores(mlp, x)
    smallest = every.topk(mlp.config.k).values[..., -1:]
    return (every * (every >= smallest)).flatten(-2)


def test_values_are_a_sum_over_all_experts():
    mlp, x = small_layer("linear_experts"), inputs(2, 3)
    y = torch.zeros_like(x)
    for unit in range(48):
        gate = gates(mlp, x)[..., unit, None]
        y += gate * (x @ mlp.w_in[unit])[..., None] * mlp.w_out[unit]
    acts, told = mlp.encode(x)
    assert torch.allclose(mlp(x)[0], y, atol=1e-13)
    assert torch.allclose(mlp.gates(x).to_dense(), gates(mlp, x), atol=1e-14)
    assert torch.allclose(acts.to_dense(), gates(mlp, x) * (x @ mlp.w_in.T), atol=1e-13)
    assert torch.equal(told["sum/fired"], (gates(mlp, x) != 0).sum((0, 1)))


def test_each_channel_chooses_k_of_its_own_experts():
    mlp = small_layer("linear_experts")
    acts = mlp.encode(inputs(4, 8))[0]
    assert ((acts.indices // 16).sort(-1).values == torch.tensor([0, 0, 1, 1, 2, 2])).all()
    assert (acts.indices.diff(dim=-1) > 0).all()


def test_a_silent_input_leaves_no_slots():
    mlp, nothing = small_layer("linear_experts"), torch.zeros(1, 2, 16, dtype=torch.float64)
    for acts in (mlp.gates(nothing), mlp.encode(nothing)[0]):
        assert (acts.indices == -1).all() and not acts.values.any()


def nonlinearity(function) -> float:
    """How far a function is from f(2a - 3b) = 2 f(a) - 3 f(b)."""
    a, b = inputs(2, 3), inputs(2, 3).flip(-1)
    with torch.no_grad():
        return float((function(2 * a - 3 * b) - 2 * function(a) + 3 * function(b)).abs().max())


def test_linear_given_gates():
    """With the gates of one input the layer is linear in another; with its own it is not."""
    mlp, x = small_layer("linear_experts"), inputs(2, 3)
    assert mlp.site.exactness == "linear-given-gates"
    chosen = mlp.gates(x).detach()
    assert nonlinearity(lambda x: mlp(x)[0]) > 1e-2
    mlp.more_sites["gates"].state = SiteState(edits=(patch(chosen),))
    assert nonlinearity(lambda x: mlp.split(x)[0]) < 1e-13
    assert nonlinearity(lambda x: small_layer("dense", activation="gelu")(x)[0]) > 1e-2


def test_the_jacobian_at_given_gates_is_the_closed_form():
    mlp, x = small_layer("linear_experts"), inputs(2, 3)
    chosen = mlp.gates(x).detach()
    jacobian = mlp.jacobian(chosen)
    assert torch.allclose((jacobian @ x[..., None])[..., 0], mlp(x)[0], atol=1e-13)
    assert torch.linalg.matrix_rank(jacobian).max() == 6  # channels x k
    mlp.more_sites["gates"].state = SiteState(edits=(patch(chosen),))
    found = torch.autograd.functional.jacobian(lambda x: mlp.split(x)[0], x)
    for b in range(2):
        for t in range(3):
            assert torch.allclose(found[b, t, :, b, t], jacobian[b, t], atol=1e-13)


def test_an_expert_can_be_woken_through_its_gate(tokens):
    model = small_model("linear_experts")
    names = ["blocks.0.mlp.gates", "blocks.0.mlp"]
    with torch.no_grad(), intervene(model, {names[0]: set_to(0.5, [7])}), record(model, names) as t:
        model(tokens)
    gate, speaks = (t[name].select(torch.tensor([7])) for name in names)
    assert (gate == 0.5).all() and speaks.all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"experts": 15}, "mlp.experts is 15; a square such as 16"),
        ({"experts": 4, "k": 5}, "mlp.k is 5; at most mlp.experts, 4"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(d_model=16, mlp=MLPS["linear_experts"].Config(**fields))


def test_experts_by_default_are_a_square_of_about_eight_times_the_width():
    config = MLPS["linear_experts"].Config()
    assert [config.n_keys(d) for d in (128, 768)] == [11, 28]
    assert MLPS["linear_experts"].Config(k=50, channels=64).n_keys(64) == 8  # 64 hold 50


@pytest.mark.parametrize("channels", [1, 8])
@pytest.mark.parametrize(("experts", "k"), [(16, 16), (64, 4), (1024, 8), (4096, 32)])
def test_the_first_write_is_as_large_as_a_dense_one(experts, k, channels):
    found = first_write("linear_experts", experts=experts, k=k, channels=channels)
    assert found == pytest.approx(first_write("dense"), rel=0.2)
