"""The whole path of a CUDA device, under the operators: values, gradients, bits, fallbacks."""

import pytest
import torch
from support.marks import slow_but

from pellucid.kernels import (
    bwd_input,
    encode_topk,
    keep_topk,
    paths,
    reference,
    sddmm,
    sparse_decode,
    topk_mlp,
    topk_rows,
)


@pytest.fixture
def triton_path(device, monkeypatch):
    """The operators run the Triton path, on a GPU or in the interpreter."""
    if device == "cpu":
        monkeypatch.setitem(paths.PATHS, "cpu", paths.PATHS["cuda"])
        monkeypatch.setitem(paths.DENSE, "cpu", paths.DENSE["cuda"])
    return device


def layer(device: str, dtype=torch.float32, rows=7, d=24, width=130):
    generator = torch.Generator().manual_seed(4)
    shapes = (rows, d), (width, d), (width,), (width, d)
    made = [torch.randn(*s, generator=generator).to(device, dtype) for s in shapes]
    return [t.requires_grad_() for t in made]


def close(got, expected):
    got, expected = got.detach(), expected.detach()
    error = (got.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-30)
    assert float(error) < 1e-5


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("products", ["sparse", "dense"])
def test_the_layer_and_its_gradients_are_the_definition_s(triton_path, signed, products):
    params = layer(triton_path)
    grad = torch.randn(7, 24, device=triton_path)
    y, values, indices = topk_mlp(*params, 11, signed=signed, products=products)
    expected = reference.topk_mlp(*params, 11, signed=signed)
    close(y, expected[0])
    close(values, expected[1])
    assert torch.equal(indices, expected[2])
    gradients = torch.autograd.grad(y, params, grad)
    for got, want in zip(gradients, torch.autograd.grad(expected[0], params, grad), strict=True):
        close(got, want)


@pytest.mark.parametrize("products", ["sparse", "dense"])
def test_the_halves_give_the_bits_of_the_whole(triton_path, products):
    params = layer(triton_path)
    grad = torch.randn(7, 24, device=triton_path)
    results = []
    for _ in range(2):
        y = topk_mlp(*params, 11, products=products)[0]
        results.append([y, *torch.autograd.grad(y, params, grad)])
        values, indices = encode_topk(*params[:3], 11, products=products)
        y = sparse_decode(values, indices, params[3], products=products)
        results.append([y, *torch.autograd.grad(y, params, grad)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("d_out", slow_but([40], [11, 40]))
def test_a_transcoder_reads_one_space_and_writes_another(triton_path, d_out):
    *encoder, _ = layer(triton_path)
    params = [*encoder, torch.randn(130, d_out, device=triton_path).requires_grad_()]
    grad = torch.randn(7, d_out, device=triton_path)
    y = topk_mlp(*params, 11, products="sparse")[0]
    halves = encode_topk(*encoder, 11, products="sparse")
    made = [y, sparse_decode(*halves, params[3], products="sparse")]
    expected = reference.topk_mlp(*params, 11)[0]
    wanted, got, other = (torch.autograd.grad(t, params, grad) for t in (expected, *made))
    for a, b, c in zip((y, *got), (expected, *wanted), (made[1], *other), strict=True):
        close(a, b)
        assert torch.equal(a, c)


def test_every_mode_selects_by_kernels(triton_path):
    params = layer(triton_path, d=32, width=160)
    modes = ("exact", "groupmax") if triton_path == "cpu" else ("exact", "groupmax", "fp8")
    for mode in modes:
        values, indices = encode_topk(*params[:3], 6, mode=mode)
        expected = reference.encode_topk(*params[:3], 6, mode=mode)
        assert torch.equal(indices, expected[1])
        close(values, expected[0])


def test_products_at_named_places_reach_both_inputs(triton_path):
    x, weight, *_ = layer(triton_path)
    indices = torch.randint(-1, 130, (7, 5), dtype=torch.int32, device=triton_path)
    made, expected = sddmm(x, weight, indices), reference.sddmm(x, weight, indices)
    close(made, expected)
    grad = torch.randn_like(made)
    both = [torch.autograd.grad(m, (x, weight), grad) for m in (made, expected)]
    for got, want in zip(*both, strict=True):
        close(got, want)
    close(bwd_input(grad, indices, weight), both[0][0])


def test_what_is_not_selected_is_set_to_zero(triton_path):
    x = torch.randn(9, 130, device=triton_path, requires_grad=True)
    kept = keep_topk(x, 7, signed=True)
    values, indices = reference.topk_rows(x.detach(), 7, signed=True)
    assert torch.equal(kept, torch.zeros_like(kept).scatter(1, indices.long(), values))
    assert torch.equal(torch.autograd.grad(kept.sum(), x)[0], (kept != 0).float())


def test_float64_and_large_selections_are_served_and_say_so(triton_path):
    paths.say_once.cache_clear()
    x = torch.randn(3, 9000, device=triton_path)
    with pytest.warns(UserWarning, match="k = 8999 of 9000 columns by library calls"):
        indices = topk_rows(x, 8999)[1]
    assert torch.equal(indices, reference.topk_rows(x, 8999)[1])
    params = layer(triton_path, torch.float64)
    with pytest.warns(UserWarning, match="float64 by dense products"):
        y = topk_mlp(*params, 5)[0]
    assert torch.allclose(y, reference.topk_mlp(*params, 5)[0])


def test_more_candidates_than_kernels_serve_are_chosen_by_library_calls(triton_path):
    """k itself would be served, the units that mode fp8 looks at again would not."""
    paths.say_once.cache_clear()
    params = layer(triton_path, rows=2, width=8200)
    with pytest.warns(UserWarning, match="k = 4000 of 8200 columns by library calls"):
        indices = encode_topk(*params[:3], 4000, signed=True, mode="fp8")[1]
    assert torch.equal(indices, reference.encode_topk(*params[:3], 4000, signed=True)[1])


def test_indices_out_of_range_are_told_in_debug_mode(triton_path, monkeypatch):
    _, _, _, w_dec = layer(triton_path)
    values = torch.ones(1, 1, device=triton_path)
    indices = torch.full((1, 1), 130, dtype=torch.int32, device=triton_path)
    monkeypatch.setenv("PELLUCID_DEBUG", "1")
    with pytest.raises(ValueError, match="indices must lie between -1 and 129"):
        sparse_decode(values, indices, w_dec, products="sparse")


def test_nothing_in_nothing_out(triton_path):
    params = layer(triton_path, rows=0)
    y, values, _ = topk_mlp(*params, 4)
    gradients = torch.autograd.grad(y, params, torch.zeros_like(y))
    assert y.shape == (0, 24) and values.shape == (0, 4)
    assert all(not g.any() for g in gradients)
