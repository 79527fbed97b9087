"""The operations against their definition: values and gradients, exact where arithmetic is."""

import itertools

import pytest
import torch

from pellucid.kernels import (
    chunks,
    cpu,
    dense,
    encode_topk,
    reference,
    sddmm,
    sparse_decode,
    topk_mlp,
)

# rows, d, width, k: ragged, k of 1 and of the whole width, widths that no group size divides
SHAPES = [
    (7, 5, 37, 1),
    (7, 5, 37, 37),
    (1, 3, 2, 2),
    (33, 8, 300, 5),
    (64, 16, 1024, 32),
    (17, 12, 1031, 24),
    (30, 7, 515, 100),
]
NAMES = ("y", "values", "indices", "d_x", "d_w_enc", "d_b_enc", "d_w_dec")


def gaussian_inputs(rows, d, width, *, dtype=torch.float64, bias=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    made = normal(rows, d), normal(width, d), bias * normal(width), normal(width, d)
    return [t.to(dtype) for t in (*made, normal(rows, d))]


def whole_inputs(rows, d, width, *, dtype=torch.float32):
    """Small whole numbers by powers of two: exact however they are summed, and full of ties."""
    generator = torch.Generator().manual_seed(1)

    def whole(*size):
        return torch.randint(-2, 3, size, generator=generator).to(dtype)

    encoder = whole(rows, d) / 4, whole(width, d) / 4, whole(width) / 16
    return [*encoder, whole(width, d), whole(rows, d)]


def outcome(layer, inputs, k, signed):
    """Everything that a layer gives: output, values, indices, and the four gradients."""
    *params, grad = inputs
    params = [p.clone().requires_grad_() for p in params]
    y, values, indices = layer(*params, k, signed=signed)
    gradients = torch.autograd.grad(y, params, grad)
    return [y.detach(), values, indices, *gradients]


def two_steps(x, w_enc, b_enc, w_dec, k, *, signed):
    values, indices = encode_topk(x, w_enc, b_enc, k, signed=signed)
    return sparse_decode(values, indices, w_dec), values.detach(), indices


def through_dense(x, w_enc, b_enc, w_dec, k, *, signed):
    """The path of devices without a kernel, called here on the CPU."""

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w_enc, b_enc, w_dec):
            y, values, indices = dense.topk_mlp(x, w_enc, b_enc, w_dec, k, signed, "exact")
            ctx.save_for_backward(values, indices, x, w_enc, w_dec)
            ctx.mark_non_differentiable(values, indices)
            return y, values, indices

        @staticmethod
        def backward(ctx, grad, *_):
            return dense.topk_mlp_backward(grad, *ctx.saved_tensors)

    return Layer.apply(x, w_enc, b_enc, w_dec)


def assert_outcomes_agree(got, expected, tolerance):
    """Indices equal; all else within `tolerance` of the norm of what is expected."""
    for name, a, b in zip(NAMES, got, expected, strict=True):
        assert a.shape == b.shape, name
        if name == "indices":
            assert a.dtype == torch.int32
            assert torch.equal(a, b), name
        else:
            error = (a.detach().double() - b.detach().double()).norm()
            assert error <= tolerance * b.detach().double().norm(), (name, float(error))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("layer", [topk_mlp, two_steps, through_dense])
@pytest.mark.parametrize("rows, d, width, k", SHAPES)
def test_agrees_with_the_definition(layer, rows, d, width, k, signed):
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 3e-6)):
        inputs = gaussian_inputs(rows, d, width, dtype=dtype)
        expected = outcome(reference.topk_mlp, inputs, k, signed)
        assert_outcomes_agree(outcome(layer, inputs, k, signed), expected, tolerance)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("layer", [topk_mlp, through_dense])
@pytest.mark.parametrize("rows, d, width, k", SHAPES)
def test_ties_go_to_the_lowest_unit(layer, rows, d, width, k, signed):
    inputs = whole_inputs(rows, d, width)
    expected = outcome(reference.topk_mlp, inputs, k, signed)
    assert_outcomes_agree(outcome(layer, inputs, k, signed), expected, 0.0)


def test_inputs_of_the_tie_test_have_ties():
    x, w_enc, b_enc, *_ = whole_inputs(64, 16, 1024)
    ranked = (x @ w_enc.T + b_enc).sort(dim=-1, descending=True).values
    assert (ranked[:, 31] == ranked[:, 32]).float().mean() > 0.5


@pytest.mark.parametrize("layer", [topk_mlp, two_steps, through_dense])
@pytest.mark.parametrize("signed", [False, True])
def test_few_or_no_active_units(layer, signed):
    for bias in (-9.0, -2.5, 0.0):
        x, w_enc, _, w_dec, grad = gaussian_inputs(40, 6, 300)
        x[::4] = 0
        x[1::4] *= 0.3
        inputs = [x, w_enc, torch.full((300,), bias, dtype=x.dtype), w_dec, grad]
        expected = outcome(reference.topk_mlp, inputs, 20, signed)
        assert_outcomes_agree(outcome(layer, inputs, 20, signed), expected, 1e-13)
        values, indices = expected[1:3]
        assert ((values == 0) == (indices == -1)).all()


def test_one_unit_for_every_token_and_units_for_none():
    x, w_enc, b_enc, w_dec, grad = gaussian_inputs(50, 6, 200)
    b_enc[7] = 100.0
    b_enc[100:] = -100.0
    inputs = [x, w_enc, b_enc, w_dec, grad]
    got = outcome(topk_mlp, inputs, 8, False)
    assert_outcomes_agree(got, outcome(reference.topk_mlp, inputs, 8, False), 1e-13)
    assert (got[2] == 7).any(dim=1).all()
    assert not got[4][100:].any() and not got[6][100:].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("layer", [topk_mlp, through_dense])
def test_half_precision_is_computed_in_float32(layer, dtype, signed):
    inputs = whole_inputs(33, 8, 300, dtype=dtype)
    got = outcome(layer, inputs, 12, signed)
    expected = outcome(reference.topk_mlp, [t.float() for t in inputs], 12, signed)
    assert [t.dtype for t in got] == [torch.int32 if n == "indices" else dtype for n in NAMES]
    for name, a, b in zip(NAMES[:3], got, expected, strict=False):
        assert torch.equal(a, b.to(a.dtype)), name  # rounded once
    assert_outcomes_agree(got, expected, 4e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("signed", [False, True])
def test_one_step_and_two_give_the_same_bits(dtype, signed):
    for rows, d, width, k in SHAPES:
        inputs = gaussian_inputs(rows, d, width, dtype=dtype, bias=2.0)
        one, two = outcome(topk_mlp, inputs, k, signed), outcome(two_steps, inputs, k, signed)
        for name, a, b in zip(NAMES, one, two, strict=True):
            assert torch.equal(a, b), name


def test_repeats_give_the_same_bits():
    inputs = gaussian_inputs(600, 24, 1500, dtype=torch.float32)
    first = outcome(topk_mlp, inputs, 32, False)
    for _ in range(10):
        again = outcome(topk_mlp, inputs, 32, False)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("onednn", [False, True])
def test_several_chunks_of_rows_by_either_library(monkeypatch, onednn):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(chunks, "MIN_CHUNK_ROWS", 16)
    if not onednn:
        monkeypatch.setattr(cpu, "_has_onednn", lambda: False)
    for make, dtype, tolerance in (
        (gaussian_inputs, torch.float64, 1e-13),
        (gaussian_inputs, torch.float32, 3e-6),
        (whole_inputs, torch.float32, 0.0),
    ):
        inputs = make(50, 6, 300, dtype=dtype)
        expected = outcome(reference.topk_mlp, inputs, 9, False)
        assert_outcomes_agree(outcome(topk_mlp, inputs, 9, False), expected, tolerance)


@pytest.mark.parametrize("layer", [topk_mlp, two_steps, through_dense])
def test_no_tokens(layer):
    got = outcome(layer, gaussian_inputs(0, 5, 64), 4, False)
    assert [tuple(t.shape) for t in got[:4]] == [(0, 5), (0, 4), (0, 4), (0, 5)]
    assert all(not t.any() for t in got[4:])


def test_output_as_wide_as_the_decoder():
    """A transcoder reads one space and writes another."""
    x, w_enc, b_enc, _, _ = gaussian_inputs(20, 6, 100)
    _, w_dec, _, _, grad = gaussian_inputs(20, 11, 100, seed=1)
    inputs = [x, w_enc, b_enc, w_dec, grad]
    expected = outcome(reference.topk_mlp, inputs, 5, False)
    for layer in (topk_mlp, two_steps, through_dense):
        assert_outcomes_agree(outcome(layer, inputs, 5, False), expected, 1e-13)


def test_padding_anywhere_gets_no_gradient():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    indices = torch.stack([torch.randperm(50, generator=generator)[:6] for _ in range(20)]).int()
    indices[torch.rand(20, 6, generator=generator) < 0.4] = -1
    indices[3] = -1
    w_dec = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    for decode in (sparse_decode, reference.sparse_decode):
        v, w = values.clone().requires_grad_(), w_dec.clone().requires_grad_()
        y = decode(v, indices, w)
        y.square().sum().backward()
        if decode is sparse_decode:
            got = y, v.grad, w.grad
    for a, b in zip(got, (y, v.grad, w.grad), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)
    assert not got[1][indices < 0].any() and not got[0][3].any()


def test_a_unit_that_no_slot_names_is_never_read():
    w_dec = torch.ones(5, 3)
    w_dec[0] = float("nan")  # where an index of -1 would land if it were clamped
    y = sparse_decode(
        torch.tensor([[2.0, 0.0]]),
        torch.tensor([[3, -1]], dtype=torch.int32),
        w_dec,
        products="sparse",
    )
    assert y.tolist() == [[2.0, 2.0, 2.0]]


@pytest.mark.parametrize("layer", [topk_mlp, two_steps, through_dense])
@pytest.mark.parametrize("signed", [False, True])
def test_nan_reaches_the_output(layer, signed):
    x, w_enc, b_enc, w_dec, grad = gaussian_inputs(12, 5, 400)
    x[3, 2] = float("nan")  # all units of one row
    b_enc[350] = float("nan")  # one unit of all rows
    y, values, indices, *_ = outcome(layer, [x, w_enc, b_enc, w_dec, grad], 6, signed)
    assert y.isnan().all()
    assert indices[3].tolist() == [0, 1, 2, 3, 4, 5]
    assert all(350 in row for i, row in enumerate(indices.tolist()) if i != 3)
    assert values.isnan().any(dim=1).all()


def test_gradcheck():
    x, w_enc, b_enc, w_dec, _ = (
        t.requires_grad_() for t in gaussian_inputs(5, 4, 70, seed=3, bias=1.0)
    )
    for signed in (False, True):
        assert torch.autograd.gradcheck(
            lambda *a, s=signed: topk_mlp(*a, 6, signed=s)[0], (x, w_enc, b_enc, w_dec)
        )
        assert torch.autograd.gradcheck(
            lambda *a, s=signed: encode_topk(*a, 6, signed=s)[0], (x, w_enc, b_enc)
        )
    values, indices = encode_topk(x.detach(), w_enc.detach(), b_enc.detach(), 6)
    values.requires_grad_()
    assert torch.autograd.gradcheck(lambda v, w: sparse_decode(v, indices, w), (values, w_dec))


def test_what_is_differentiable_reaches_every_parameter():
    *params, _ = gaussian_inputs(9, 4, 70)
    x, w_enc, b_enc, w_dec = (p.requires_grad_() for p in params)
    y, values, indices = topk_mlp(x, w_enc, b_enc, w_dec, 5)
    assert (y.requires_grad, values.requires_grad, indices.requires_grad) == (True, False, False)
    values, indices = encode_topk(x, w_enc, b_enc, 5)
    assert (values.requires_grad, indices.requires_grad) == (True, False)
    decoded = sparse_decode(values, indices, w_dec)
    for output, inputs in (
        (y, (x, w_enc, b_enc, w_dec)),
        (values, (x, w_enc, b_enc)),
        (decoded, (values, w_dec)),
    ):
        grads = torch.autograd.grad(output.sum(), inputs, retain_graph=True)
        assert all(g.layout == torch.strided and g.abs().sum() > 0 for g in grads)


@pytest.mark.parametrize(
    "part, wrong",
    list(
        itertools.product(
            ["_value_gradient", "_weight_gradient", "_decode"],
            [lambda t: 1.01 * t, lambda t: 0 * t],
        )
    ),
)
def test_the_comparison_can_fail(monkeypatch, part, wrong):
    inputs = gaussian_inputs(20, 5, 200)
    expected = outcome(reference.topk_mlp, inputs, 6, False)
    right = getattr(cpu, part)
    monkeypatch.setattr(cpu, part, lambda *a: wrong(right(*a)))
    with pytest.raises(AssertionError):
        assert_outcomes_agree(outcome(topk_mlp, inputs, 6, False), expected, 1e-3)


@pytest.mark.parametrize("path", [cpu, dense])
def test_sddmm_takes_the_named_products_and_its_gradients_reach_both_inputs(path, monkeypatch):
    monkeypatch.setattr("pellucid.kernels.operators.serving", lambda *_: path)
    generator = torch.Generator().manual_seed(3)
    x, weight = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (5, 9))
    indices = torch.tensor([[0, 8, -1], [2, 3, 2], [-1, -1, -1], [1, 7, -1], [5, 6, 8]]).int()
    params = x.requires_grad_(), weight.requires_grad_()
    assert torch.allclose(sddmm(*params, indices), reference.sddmm(*params, indices))
    assert (sddmm(*params, indices)[indices < 0] == 0).all()
    assert torch.autograd.gradcheck(lambda a, b: sddmm(a, b, indices), params)
