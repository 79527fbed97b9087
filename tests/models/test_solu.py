"""SoLU: its definition, its two sites, and the precision of its softmax."""

import pytest
import torch
from support.small import first_write, inputs, small_layer, small_model

from pellucid.models import ablate, intervene, record
from pellucid.models.units import SiteState


def definition(mlp, x: torch.Tensor, keep: torch.Tensor | None = None):
    """Values before and after the norm and the output, one token at a time."""
    rows = []
    for row in x.flatten(0, 1):
        z = mlp.w_in @ row + mlp.b_in
        shares = z.exp() / z.exp().sum()
        raw = z * shares * (1 if keep is None else keep)
        spread = ((raw - raw.mean()) ** 2).mean() + mlp.config.eps / len(raw) ** 2
        n = (raw - raw.mean()) / spread.sqrt() * mlp.gain + mlp.shift
        rows.append((raw, n, n @ mlp.w_out + mlp.b_out))
    return (torch.stack(column).view(*x.shape[:2], -1) for column in zip(*rows, strict=True))


def layer():
    mlp = small_layer("solu")
    with torch.no_grad():
        mlp.gain.normal_(generator=torch.Generator().manual_seed(3))
        mlp.shift.normal_(generator=torch.Generator().manual_seed(4))
    return mlp


def test_values_are_those_of_the_definition():
    mlp, x = layer(), inputs(2, 3)
    raw, n, y = definition(mlp, x)
    assert torch.allclose(mlp._compete(x).values, raw, atol=1e-14)
    assert torch.allclose(mlp.encode(x)[0].values, n, atol=1e-12)
    assert torch.allclose(mlp(x)[0], y, atol=1e-12)


def test_an_edit_before_the_norm_is_normalized():
    mlp, x = layer(), inputs(2, 3)
    keep = torch.ones(48, dtype=torch.float64)
    keep[[2, 30]] = 0
    mlp.more_sites["pre_norm"].state = SiteState(edits=(ablate([2, 30]),))
    assert torch.allclose(mlp.split(x)[0], list(definition(mlp, x, keep))[2], atol=1e-12)


def test_both_sites_are_recorded_under_their_names(tokens):
    model = small_model("solu")
    names = ["blocks.0.mlp", "blocks.0.mlp.pre_norm"]
    with torch.no_grad(), record(model, names) as trace:
        model(tokens)
    after, before = (trace[name].values for name in names)
    mlp = model.blocks[0].mlp
    expected = torch.nn.functional.layer_norm(before, (48,), mlp.gain, mlp.shift, 1e-5 / 48**2)
    assert torch.equal(after, expected)
    plain = model(tokens).logits
    with intervene(model, {names[1]: ablate([5])}):
        assert not torch.allclose(model(tokens).logits, plain)


def test_small_values_stay_apart_in_half_precision():
    """Under autocast the softmax and the norm are in float32."""
    mlp = small_layer("solu").float()
    x = inputs(2, 3).float()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        acts = mlp._compete(x)
        z = torch.nn.functional.linear(x, mlp.w_in, mlp.b_in)
        y, split = mlp(x)[0], mlp.split(x)[0]
    assert z.dtype == torch.bfloat16
    assert torch.equal(acts.values, z.float() * z.float().softmax(-1))
    assert torch.equal(y, split)


@pytest.mark.parametrize("width", [64, 512, 8192])
def test_the_first_write_is_as_large_as_a_dense_one(width):
    dense = first_write("dense", width=width)
    assert first_write("solu", width=width) == pytest.approx(dense, rel=0.2)
