"""Monet and PEER against the authors' own, weights copied across: outputs and gradients."""

import pytest
import torch
from support.originals import Values
from support.parity import check_layer
from torch import Tensor

from pellucid.models.mlp import MLPS


def router(values: Values) -> Tensor:
    """Two matrices of 2 heads x 6 halves each; ours has both halves of a head side by side."""
    first, second = (values[f"router.{name}.weight"].unflatten(0, (2, 6)) for name in ("w1", "w2"))
    return torch.stack([first, second], dim=1).flatten(0, 2)


def horizontal(values: Values) -> dict[str, Tensor]:
    return {
        "w_route": router(values),
        "experts.w_in": values["moe.u.weight"],
        "experts.b_in": values["moe.u.bias"],
        "experts.w_out": values["moe.v.weight"].T,
        "experts.b_experts": values["moe.b"],
    }


def vertical(values: Values) -> dict[str, Tensor]:
    """Each half of the outputs reads, half by half, its neurons of the first and of the second."""

    def written(first: str, second: str) -> Tensor:
        both = (values[f"moe.{name}.weight"].T.unflatten(0, (6, 2)) for name in (first, second))
        return torch.cat(list(both), dim=1).flatten(0, 1)

    return {
        "w_route": router(values),
        "experts.w_in": torch.cat([values["moe.u1.weight"], values["moe.u2.weight"]]),
        "experts.b_in": torch.cat([values["moe.u1.bias"], values["moe.u2.bias"]]),
        "experts.w_out": torch.stack([written("v11", "v12"), written("v21", "v22")]),
        "experts.b_experts": torch.stack([values["moe.b1"], values["moe.b2"]]),
    }


def peer(values: Values) -> dict[str, Tensor]:
    """Queries are ordered half before head there; the original adds no bias at the end."""
    queries = values["to_queries.0.weight"].unflatten(0, (2, 2, 4))
    return {
        "keys.w_query": queries.transpose(0, 1).flatten(0, 2),
        "keys.keys": values["keys"].transpose(1, 2),
        "w_in": values["weight_down_embed.weight"],
        "w_out": values["weight_up_embed.weight"],
        "b_out": values.absent(8),
    }


@pytest.mark.parametrize("split, naming", [("horizontal", horizontal), ("vertical", vertical)])
def test_monet(split, naming):
    """Where the original's threshold keeps k halves; its router computes in float32."""
    layer = MLPS["monet"].Config(split=split, n_experts=36, k=2, n_heads=2, width=24).build(8)
    check_layer(f"monet_{split}", layer, naming, gradients=1, tolerance=1e-6)


def test_peer():
    """With running statistics of mean 0 and variance 1: the original does not norm its queries."""
    layer = MLPS["peer"].Config(n_experts=16, k=3, n_heads=2, d_key=8, query_norm="batch").build(8)
    with torch.no_grad():
        assert not layer.keys.query_mean.any() and (layer.keys.query_square == 1).all()
    check_layer("peer", layer, peer, gradients=4)
