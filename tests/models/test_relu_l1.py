"""ReLU MLPs with an L1 loss: definition, loss, and what is linear about them."""

import pytest
import torch
from support.small import first_write, inputs, small_layer

from pellucid.models.mlp import MLPS

ACTIVATIONS = ("relu", "gated_relu")


def hidden(mlp, x: torch.Tensor) -> torch.Tensor:
    values = (x @ mlp.w_enc.T + mlp.b_enc).clamp_min(0)
    return values * (x @ mlp.w_up.T) if mlp.config.activation == "gated_relu" else values


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_values_and_the_loss_are_those_of_the_definition(activation):
    mlp, x = small_layer("relu_l1", activation=activation, l1=0.25), inputs(4, 3)
    acts, told = mlp.encode(x)
    assert torch.allclose(acts.values, hidden(mlp, x), atol=1e-13)
    assert torch.allclose(mlp(x)[0], hidden(mlp, x) @ mlp.w_dec + mlp.b_dec, atol=1e-13)
    expected = 0.25 * float(hidden(mlp, x).detach().abs().sum()) / 12
    assert float(told["loss/l1"].detach()) == pytest.approx(expected)
    assert torch.equal(told["sum/fired"], (hidden(mlp, x) != 0).sum((0, 1)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_loss_of_a_whole_batch_is_the_mean_over_its_parts(activation):
    """As the trainer adds it up: each micro-batch by its share of the tokens."""
    mlp, x = small_layer("relu_l1", activation=activation), inputs(8, 3)
    whole = mlp.encode(x)[1]["loss/l1"]
    parts = [mlp.encode(part)[1]["loss/l1"] * len(part) / 8 for part in x.split([2, 5, 1])]
    assert float(sum(parts).detach()) == pytest.approx(float(whole.detach()), rel=1e-12)
    parameters = [p for name, p in mlp.named_parameters() if "dec" not in name]
    for a, b in zip(
        torch.autograd.grad(whole, parameters),
        torch.autograd.grad(sum(parts), parameters),
        strict=True,
    ):
        assert a.any()
        assert torch.allclose(a, b, atol=1e-14)


def test_the_loss_pulls_on_active_units_alone():
    mlp, x = small_layer("relu_l1", l1=0.5), inputs(1, 1)
    active = (mlp.encode(x)[0].values > 0).flatten()
    grad = torch.autograd.grad(mlp.encode(x)[1]["loss/l1"], mlp.b_enc)[0]
    assert torch.equal(grad, 0.5 * active.double())


def bend(mlp) -> float:
    """Second difference of the layer along a step that changes no unit's activity."""
    x, step = inputs(1, 1), 1e-3 * inputs(1, 1).flip(-1)
    with torch.no_grad():
        patterns = [mlp.encode(x + s)[0].to_dense() != 0 for s in (-step, 0 * step, step)]
        low, middle, high = (mlp(x + s)[0] for s in (-step, 0 * step, step))
    assert all(torch.equal(pattern, patterns[0]) for pattern in patterns)
    return float((low - 2 * middle + high).abs().max())


def test_linear_given_the_active_set_holds_for_the_plain_one_alone():
    plain, gated = (small_layer("relu_l1", activation=a) for a in ACTIVATIONS)
    assert plain.site.exactness == "linear-given-active-set"
    assert bend(plain) < 1e-14
    assert gated.site.exactness == "none"
    assert bend(gated) > 1e-9
    assert bend(small_layer("dense", activation="gelu")) > 1e-9


def test_gated_units_take_both_signs_and_have_no_single_reading_direction():
    plain, gated = (small_layer("relu_l1", activation=a) for a in ACTIVATIONS)
    assert not plain.site.signed and plain.site.read_directions() is not None
    assert gated.site.signed and gated.site.read_directions() is None
    assert (gated.encode(inputs(4, 4))[0].values < 0).any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_default_width_has_the_parameters_of_a_dense_layer(activation):
    layer = MLPS["relu_l1"].Config(activation=activation).build(192)
    assert sum(p.numel() for p in layer.parameters()) == pytest.approx(8 * 192**2, rel=0.01)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("width", [64, 4096])
def test_the_first_write_is_as_large_as_a_dense_one(activation, width):
    dense = first_write("dense", width=width)
    found = first_write("relu_l1", width=width, activation=activation)
    assert found == pytest.approx(dense, rel=0.2)
