"""The bilinear MLP: its definition, and what its weights alone say about its outputs."""

from itertools import combinations

import pytest
import torch
from support.small import inputs, small_layer

from pellucid.models.mlp import MLPS


def direction() -> torch.Tensor:
    return torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(6))


def extended(x: torch.Tensor, bias: bool) -> torch.Tensor:
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1) if bias else x


def measured_form(mlp, u: torch.Tensor) -> torch.Tensor:
    """The quadratic form x' = [x, 1] that agrees with u · f at 0, ± e_i and e_i + e_j."""
    size, basis = 16, torch.eye(16, dtype=torch.float64)

    def value(x):
        return mlp(x[None, None])[0][0, 0] @ u

    form = torch.zeros(size + 1, size + 1, dtype=torch.float64)
    form[size, size] = value(0 * basis[0])
    for i in range(size):
        plus, minus = value(basis[i]), value(-basis[i])
        form[i, i] = (plus + minus) / 2 - form[size, size]
        form[i, size] = form[size, i] = (plus - minus) / 4
    for i, j in combinations(range(size), 2):
        mixed = value(basis[i] + basis[j]) - value(basis[i]) - value(basis[j])
        form[i, j] = form[j, i] = (mixed + form[size, size]) / 2
    return form


def deviation(mlp) -> float:
    """How far u · f(x) is from the only quadratic form it could be, at other inputs."""
    with torch.no_grad():
        x, u = extended(inputs(4, 5), True), direction()
        form = measured_form(mlp, u)
        return float((mlp(x[..., :-1])[0] @ u - ((x @ form) * x).sum(-1)).abs().max())


@pytest.mark.parametrize("bias", [False, True])
def test_values_are_those_of_the_definition(bias):
    mlp, x = small_layer("bilinear", bias=bias), inputs(2, 3)
    first, second = x @ mlp.w_in.T, x @ mlp.w_up.T
    if bias:
        first, second = first + mlp.b_in, second + mlp.b_up
    expected = (first * second) @ mlp.w_out + (mlp.b_out if bias else 0)
    assert torch.allclose(mlp(x)[0], expected, atol=1e-13)
    assert sorted(dict(mlp.named_parameters())) == sorted(
        ["w_in", "w_up", "w_out"] + ["b_in", "b_up", "b_out"] * bias
    )


def test_weights_exact_every_output_is_a_quadratic_form():
    """Found by evaluation alone; what is not quadratic has no such form."""
    assert small_layer("bilinear").site.exactness == "weights-exact"
    assert deviation(small_layer("bilinear", bias=False)) < 1e-12
    assert deviation(small_layer("bilinear", bias=True)) < 1e-12
    assert deviation(small_layer("dense", activation="gelu")) > 1e-2
    assert deviation(small_layer("solu")) > 1e-2


@pytest.mark.parametrize("bias", [False, True])
def test_the_form_from_the_weights_is_the_form_of_the_layer(bias):
    mlp, u = small_layer("bilinear", bias=bias), direction()
    form = mlp.quadratic_form(u)
    assert form.shape == (16 + bias, 16 + bias)
    assert torch.equal(form, form.T)
    expected = measured_form(mlp, u).detach()
    assert torch.allclose(form, expected[: 16 + bias, : 16 + bias], atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_eigenvectors_add_up_to_the_output_and_a_truncation_knows_its_error(bias):
    mlp, x, u = small_layer("bilinear", bias=bias), inputs(3, 4), direction()
    whole, seen = mlp(x)[0] @ u, extended(x, bias)
    eigen = mlp.eigen(u)
    assert torch.allclose(eigen(seen), whole, atol=1e-12)
    assert (eigen.values.abs().diff() <= 0).all()
    assert torch.allclose(
        eigen.vectors @ eigen.vectors.T, torch.eye(16 + bias).double(), atol=1e-12
    )
    assert (eigen.vectors.gather(1, eigen.vectors.abs().argmax(1, keepdim=True)) > 0).all()
    for rank in (0, 5, 16 + bias):
        cut = mlp.truncate(u, rank)
        assert len(cut.kept.values) == rank
        assert torch.allclose(whole - cut.kept(seen), cut.error(seen), atol=1e-12)
        assert (cut.error(seen).abs() <= cut.worst * seen.square().sum(-1) + 1e-12).all()
    assert mlp.truncate(u, 3).worst == pytest.approx(float(eigen.values[3].abs()))
    with pytest.raises(ValueError, match=r"rank is 18; 0 … "):
        mlp.truncate(u, 18)


def test_the_default_width_matches_the_dense_parameters():
    dense, bilinear = (
        sum(p.numel() for p in MLPS[tag].Config().build(192).parameters())
        for tag in ("dense", "bilinear")
    )
    assert bilinear == 8 * 192**2
    assert bilinear == pytest.approx(dense, rel=0.01)
    assert MLPS["bilinear"].Config().resolved_width(1) == 8
