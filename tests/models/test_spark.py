"""Statistical top-k: its threshold, its gradient, and how many units it leaves."""

from statistics import NormalDist

import pytest
import torch
from support.small import first_write, inputs, small_layer

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig
from pellucid.models.mlp import MLPS


def test_values_are_those_of_the_definition():
    mlp, x = small_layer("spark", k=7), inputs(2, 3)
    z = x @ mlp.w_enc.T + mlp.b_enc
    mean = z.sum(-1, keepdim=True) / 48
    deviation = (((z - mean) ** 2).sum(-1, keepdim=True) / 48).sqrt()
    values = (z - mean - deviation * NormalDist().inv_cdf(1 - 7 / 48)).clamp_min(0)
    acts, told = mlp.encode(x)
    assert torch.allclose(acts.values, values, atol=1e-13)
    assert torch.allclose(mlp(x)[0], values @ mlp.w_dec + mlp.b_dec, atol=1e-13)
    assert torch.equal(told["sum/fired"], (values > 0).sum((0, 1)))


@pytest.mark.parametrize("k", [16, 64, 512])
def test_about_k_units_are_active(k):
    x = torch.randn(8, 64, 64, generator=torch.Generator().manual_seed(0))
    config = ModelConfig(d_model=64, mlp=MLPS["spark"].Config(width=2048, k=k))
    mlp = config.mlp.build(64)
    with torch.no_grad():
        mlp.w_enc.normal_(generator=torch.Generator().manual_seed(1))
        acts = mlp.encode(x)[0]
    assert float(acts.count.float().mean()) == pytest.approx(k, rel=0.1)


def test_the_gradient_goes_through_the_threshold():
    mlp = small_layer("spark", k=7)
    x = inputs(1, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mlp(x)[0], x)
    pulled = torch.autograd.grad(mlp.encode(x)[0].values.sum(), mlp.b_enc)[0]
    silent = (mlp.encode(x)[0].values == 0).all(1).flatten()
    assert pulled[silent].all()  # through the mean and the deviation, which every unit moves


def test_equal_pre_activations_have_a_finite_gradient():
    mlp = small_layer("spark", k=7)
    x = torch.zeros(1, 1, 16, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        mlp.b_enc.fill_(0.5)
    grads = torch.autograd.grad(mlp(x)[0].sum(), [x, mlp.w_enc], allow_unused=True)
    assert all(grad.isfinite().all() for grad in grads)


def test_nothing_is_declared_because_the_threshold_bends_with_the_input():
    mlp, x, step = small_layer("spark", k=7), inputs(1, 1), 1e-3 * inputs(1, 1).flip(-1)
    assert mlp.site.exactness == "none"
    with torch.no_grad():
        low, middle, high = (mlp(x + s)[0] for s in (-step, 0 * step, step))
        patterns = [mlp.encode(x + s)[0].values > 0 for s in (-step, step)]
    assert torch.equal(*patterns)
    assert float((low - 2 * middle + high).abs().max()) > 1e-9


def test_more_units_than_there_can_be_are_refused():
    for k in (48, 49):
        with pytest.raises(ConfigError, match=rf"mlp.k is {k}; .*at most"):
            ModelConfig(d_model=16, mlp=MLPS["spark"].Config(width=48, k=k))


@pytest.mark.parametrize(("width", "k"), [(128, 4), (128, 100), (4096, 16), (4096, 2048)])
def test_the_first_write_is_as_large_as_a_dense_one(width, k):
    dense = first_write("dense", width=width)
    assert first_write("spark", width=width, k=k) == pytest.approx(dense, rel=0.2)
