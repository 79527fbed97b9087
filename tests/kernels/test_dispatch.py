"""One decision for a layer, from one table: its values, its words, and that both ways agree."""

import pytest
import torch

from pellucid.kernels import encode_topk, paths, sparse_decode, topk_mlp
from pellucid.kernels.dispatch import BREAK_EVEN, decide, decision


def layer(width: int, d: int = 8, rows: int = 12):
    generator = torch.Generator().manual_seed(1)
    shapes = (rows, d), (width, d), (width,), (width, d)
    return [
        torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes
    ]


def test_the_table_decides_by_width_over_k():
    limit = BREAK_EVEN["cuda"]
    assert decide("auto", "cuda", int(limit * 32), 32) == "sparse"
    assert decide("auto", "cuda", int(limit * 32) - 1, 32) == "dense"
    assert decide("dense", "cuda", 10**6, 1) == "dense"
    assert decide("sparse", "cuda", 8, 8) == "sparse"
    assert decide("auto", "meta", 8, 8) == "sparse"
    assert decision("cuda", 65536, 64) == "sparse products (width/k 1024, break-even 200)"
    assert decision("cpu", 64, 32, "dense") == "dense products (width/k 2, as asked)"


def test_the_path_is_the_decision_s(monkeypatch):
    on_cpu = torch.zeros(1)
    names = {
        products: paths.serving(on_cpu, products, 64, 8).__name__.rpartition(".")[2]
        for products in ("auto", "sparse", "dense")
    }
    assert names == {"auto": "cpu", "sparse": "cpu", "dense": "dense"}
    assert paths.serving(on_cpu, "auto", 8, 8).__name__.endswith("dense")


@pytest.mark.parametrize("width", [10, 90])
def test_every_way_gives_the_same_layer_and_its_halves_the_same_bits(width):
    params, made = layer(width), {}
    grad = torch.randn(12, 8, dtype=torch.float64)
    for products in ("sparse", "dense", "auto"):
        y = topk_mlp(*params, 5, products=products)[0]
        gradients = torch.autograd.grad(y, params, grad)
        values, indices = encode_topk(*params[:3], 5, products=products)
        halves = sparse_decode(values, indices, params[3], products=products)
        assert torch.equal(halves, y)
        for a, b in zip(torch.autograd.grad(halves, params, grad), gradients, strict=True):
            assert torch.equal(a, b)
        made[products] = [y, *gradients]
    for a, b in zip(made["sparse"], made["dense"], strict=True):
        assert torch.allclose(a, b)
    chosen = "sparse" if width == 90 else "dense"
    assert all(torch.equal(a, b) for a, b in zip(made["auto"], made[chosen], strict=True))


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="products must be one of auto, sparse, dense, got 'fast'"):
        topk_mlp(*layer(40), 5, products="fast")
