"""Q-Sparse: what is kept, at which size, and a gradient that passes straight through."""

import pytest
import torch
import torch.nn.functional as F
from support.small import first_write, inputs, small_layer, small_model

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, ablate, intervene, record
from pellucid.models.mlp import MLPS
from pellucid.models.mlp.q_sparse import sparsify


def kept(x: torch.Tensor, k: int) -> torch.Tensor:
    """The definition, row by row."""
    rows = []
    for row in x.flatten(0, 1):
        mask = torch.zeros_like(row)
        mask[row.abs().argsort(descending=True)[:k]] = 1
        part = row * mask
        rows.append(part * (row.square().sum() / part.square().sum()).sqrt())
    return torch.stack(rows).view_as(x)


def test_sparsify_keeps_the_largest_at_the_norm_of_all():
    x = inputs(3, 4)
    y = sparsify(x, 5)
    assert torch.allclose(y, kept(x, 5), atol=1e-14)
    assert ((y != 0).sum(-1) == 5).all()
    assert torch.allclose(y.norm(dim=-1), x.norm(dim=-1))
    assert torch.allclose(sparsify(x, 16), x, atol=1e-15)
    assert not sparsify(torch.zeros(1, 2, 16), 5).any()


def test_the_gradient_of_sparsify_is_the_identity():
    x = inputs(3, 4).requires_grad_()
    weights = inputs(3, 4).flip(-1)
    grad = torch.autograd.grad((sparsify(x, 5) * weights).sum(), x)[0]
    assert torch.equal(grad, weights)


def test_values_are_those_of_the_definition():
    mlp, x = small_layer("q_sparse", k=12, k_in=6), inputs(2, 3)
    read = kept(x, 6)
    hidden = kept((read @ mlp.w_in.T).clamp_min(0) ** 2 * (read @ mlp.w_up.T), 12)
    acts, told = mlp.encode(x)
    assert torch.allclose(acts.values, hidden, atol=1e-12)
    assert torch.allclose(mlp(x)[0], hidden @ mlp.w_out, atol=1e-12)
    assert torch.equal(told["sum/fired"], (hidden != 0).sum((0, 1)))


def test_weights_learn_from_what_is_read_and_inputs_as_if_all_were():
    mlp = small_layer("q_sparse", k=12, k_in=6)
    x = inputs(2, 3).requires_grad_()
    weights = inputs(2, 3).flip(-1)
    grads = torch.autograd.grad((mlp(x)[0] * weights).sum(), [x, mlp.w_out, mlp.w_in])
    read = kept(x.detach(), 6).requires_grad_()
    gate, up = read @ mlp.w_in.T, read @ mlp.w_up.T
    hidden = F.relu(gate) ** 2 * up
    assert torch.allclose(
        grads[1], torch.einsum("btu,btd->ud", kept(hidden.detach(), 12), weights), atol=1e-12
    )
    expected = torch.autograd.grad(hidden, [read, mlp.w_in], weights @ mlp.w_out.T)
    assert torch.allclose(grads[0], expected[0], atol=1e-12)
    assert torch.allclose(grads[2], expected[1], atol=1e-12)


def test_nothing_left_out_is_the_dense_gated_layer():
    mlp, x = small_layer("q_sparse", k=48, k_in=16), inputs(2, 3)
    hidden = F.relu(x @ mlp.w_in.T) ** 2 * (x @ mlp.w_up.T)
    assert torch.allclose(mlp(x)[0], hidden @ mlp.w_out, atol=1e-12)


def test_half_is_kept_where_nothing_else_is_said():
    mlp = small_layer("q_sparse", k=None, k_in=None)
    assert (mlp.k, mlp.k_in) == (24, 8)
    layer = MLPS["q_sparse"].Config().build(192)
    assert sum(p.numel() for p in layer.parameters()) == 8 * 192**2


def test_the_input_is_a_site_of_its_own(tokens):
    model = small_model("q_sparse")
    site = "blocks.0.mlp.input"
    with torch.no_grad(), record(model, [site]) as trace:
        plain = model(tokens).logits
    assert (trace[site].count == 8).all()
    with torch.no_grad(), intervene(model, {site: ablate()}), record(model, ["blocks.0.mlp"]) as t:
        assert not torch.allclose(model(tokens).logits, plain)
    assert not t["blocks.0.mlp"].values.any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 49}, "mlp.k is 49; at most the width, 48"),
        ({"k_in": 17}, "mlp.k_in is 17; at most d_model, 16"),
    ],
)
def test_more_than_there_is_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(d_model=16, mlp=MLPS["q_sparse"].Config(width=48, **fields))


@pytest.mark.parametrize("k_in", [8, 64])
@pytest.mark.parametrize(("width", "k"), [(256, 16), (256, 256), (4096, 64)])
def test_the_first_write_is_as_large_as_a_dense_one(width, k, k_in):
    dense = first_write("dense", width=width)
    found = first_write("q_sparse", width=width, k=k, k_in=k_in)
    assert found == pytest.approx(dense, rel=0.2)
