"""Mixture of Decoders: the Hadamard form is a sum of experts, and each can be taken out exactly."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from support.small import first_write, inputs, small_layer, small_model

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, ablate, intervene, record
from pellucid.models.mlp import MLPS
from pellucid.models.units import SiteState, UnitSite


def gates(mlp, x: torch.Tensor) -> torch.Tensor:
    pre = (x @ mlp.w_gate.T + mlp.b_gate).clamp_min(0)
    return pre * (pre >= pre.topk(mlp.config.k).values[..., -1:])


def hidden(mlp, x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x @ mlp.w_in.T + mlp.b_in)


def test_the_hadamard_form_is_the_sum_of_explicit_experts():
    mlp, x = small_layer("mxd"), inputs(2, 3)
    y = mlp.b_out.expand_as(x).clone()
    for unit in range(48):
        matrix = mlp.w_out @ torch.diag(mlp.w_scale[unit])
        assert torch.equal(mlp.expert(unit), matrix)
        y += gates(mlp, x)[..., unit, None] * (hidden(mlp, x) @ matrix)
    acts, told = mlp.encode(x)
    assert torch.allclose(acts.to_dense(), gates(mlp, x), atol=1e-14)
    assert torch.allclose(mlp(x)[0], y, atol=1e-12)
    assert torch.equal(told["sum/fired"], (gates(mlp, x) > 0).sum((0, 1)))
    assert torch.linalg.matrix_rank(mlp.expert(3)) == 16


def effect(mlp, site: UnitSite, x: torch.Tensor, *units: int) -> torch.Tensor:
    """What leaves the output when units are ablated."""
    with torch.no_grad():
        whole = mlp.split(x)[0]
        site.state = SiteState(edits=(ablate(list(units)),))
        left = mlp.split(x)[0]
    site.state = SiteState()
    return whole - left


def interaction(mlp, site: UnitSite, x: torch.Tensor) -> float:
    """How far the effects of single ablations are from adding up to that of all at once."""
    units = [int(u) for u in mlp.encode(x)[0].to_dense()[0, 0].abs().topk(4).indices]
    singles = sum(effect(mlp, site, x, unit) for unit in units)
    return float((singles - effect(mlp, site, x, *units)).abs().max())


def test_unit_ablation_exact():
    """An ablated expert takes its own term with it and nothing else; behind a norm, others move."""
    mlp, x = small_layer("mxd"), inputs(1, 1)
    assert mlp.site.exactness == "unit-ablation-exact"
    gate = gates(mlp, x)[0, 0]
    for unit in gate.nonzero().flatten().tolist():
        term = gate[unit] * (hidden(mlp, x) @ mlp.expert(unit))
        assert torch.allclose(effect(mlp, mlp.site, x, unit), term, atol=1e-13)
    silent = int((gate == 0).nonzero()[0])
    assert not effect(mlp, mlp.site, x, silent).any()
    assert interaction(mlp, mlp.site, x) < 1e-13
    solu = small_layer("solu")
    assert interaction(solu, solu.more_sites["pre_norm"], x) > 1e-3


def test_the_hidden_neurons_are_a_site_of_their_own(tokens):
    model = small_model("mxd")
    site = "blocks.0.mlp.hidden"
    with torch.no_grad(), record(model, [site, "blocks.0.mlp"]) as trace:
        plain = model(tokens).logits
    assert trace[site].values.shape == (3, 24, 24)
    assert trace["blocks.0.mlp"].is_sparse
    with torch.no_grad(), intervene(model, {site: ablate([2])}):
        assert not torch.allclose(model(tokens).logits, plain)


def test_an_expert_reads_a_direction_and_writes_none():
    mlp = small_layer("mxd")
    assert torch.equal(mlp.site.read_directions(), mlp.w_gate)
    assert mlp.site.write_directions() is None


def test_more_active_experts_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="mlp.k is 9; at most mlp.experts, 8"):
        ModelConfig(d_model=16, mlp=MLPS["mxd"].Config(k=9, experts=8))


def test_cost_grows_with_the_active_experts_by_their_scale_alone():
    costs = [small_layer("mxd", k=k).cost(24) for k in (4, 5, 6)]
    assert [b.executed - a.executed for a, b in pairwise(costs)] == [2 * 16, 2 * 16]
    assert costs[-1].active == sum(p.numel() for p in small_layer("mxd").parameters()) - 42 * 16


@pytest.mark.parametrize("width", [32, 1024])
@pytest.mark.parametrize(("experts", "k"), [(64, 2), (64, 60), (4096, 32)])
def test_the_first_write_is_as_large_as_a_dense_one(experts, k, width):
    found = first_write("mxd", experts=experts, k=k, width=width)
    assert found == pytest.approx(first_write("dense"), rel=0.2)
