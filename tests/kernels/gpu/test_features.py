"""The unit-sorted backward against autograd through the dense definition, and bit against bit."""

import pytest
import torch
import triton
import triton.language as tl
from support.slots import normal, random_slots, relative_error

from pellucid.kernels import reference
from pellucid.kernels.csc import sort_by_unit
from pellucid.kernels.gpu import features, gradients
from pellucid.kernels.gpu.features import bwd_features
from pellucid.kernels.gpu.split import join, piece, split_length, split_long

# rows, d, width, k: ragged everywhere; in each, unit 0 fires on most rows and the last on none
SHAPES = [(7, 5, 17, 3), (12, 24, 15, 6), (4, 300, 9, 5), (3, 48, 11, 10), (5, 16, 9, 1)]
TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3}
if torch.cuda.is_available():
    TOLERANCE[torch.bfloat16] = 1e-2
NAMES = ("d_x", "d_w_enc", "d_b_enc", "d_w_dec")


def layer(rows, d, width, k, dtype=torch.float32, device="cpu"):
    """grad, values, indices, x, w_enc, w_dec as `topk_mlp_backward` takes them."""
    values, indices = random_slots(rows, k, width)
    floats = normal(rows, d), values, normal(rows, d, seed=2), normal(width, d), normal(width, d)
    grad, values, x, w_enc, w_dec = [t.to(device, dtype) for t in floats]
    return grad, values, indices.to(device), x, w_enc, w_dec


def expected_gradients(grad, values, indices, x, w_enc, w_dec):
    """d_values and the four gradients in float64, by the dense definitions."""
    grad, values, x, w_enc, w_dec = [t.cpu().double() for t in (grad, values, x, w_enc, w_dec)]
    indices = indices.cpu()
    d_w_dec, d_w_enc, d_b_enc, d_values = reference.bwd_features(indices, values, grad, w_dec, x)
    return d_values, reference.bwd_input(d_values, indices, w_enc), d_w_enc, d_b_enc, d_w_dec


@pytest.mark.parametrize("shape", SHAPES)
def test_the_definitions_are_what_autograd_finds(shape):
    grad, values, indices, x, w_enc, w_dec = [
        t.double() if t.is_floating_point() else t for t in layer(*shape)
    ]
    bias = torch.zeros(len(w_enc), dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (values, w_dec, x, w_enc, bias)]
    y = reference.sparse_decode(values, indices, w_dec)
    d_values, d_w_dec = torch.autograd.grad(y, leaves[:2], grad)
    pre = reference.sddmm(x, w_enc, indices)
    pre = pre + bias[indices.long().clamp(min=0)].masked_fill(indices < 0, 0)
    wanted = d_values, *torch.autograd.grad(pre, leaves[2:], d_values), d_w_dec
    found = expected_gradients(grad, values, indices, x, w_enc, w_dec)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def in_halves(grad, values, indices, x, w_enc, w_dec):
    """What the decoder's backward and then the encoder's give, and the gradient between them."""
    d_values, d_w_dec = gradients.sparse_decode_backward(grad, values, indices, w_dec)
    return (*gradients.encode_topk_backward(d_values, indices, x, w_enc), d_w_dec), d_values


def assert_same_bits(got, expected):
    for name, a, b in zip(NAMES, got, expected, strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_whole_backward(shape, dtype, device):
    operands = layer(*shape, dtype, device)
    d_values, *expected = expected_gradients(*operands)
    got = gradients.topk_mlp_backward(*operands)
    for name, a, b in zip(NAMES, got, expected, strict=True):
        assert a.dtype == dtype, name
        assert relative_error(a.cpu(), b) < TOLERANCE[dtype], name
    assert_same_bits(gradients.topk_mlp_backward(*operands), got)
    halves, found = in_halves(*operands)
    assert_same_bits(halves, got)
    found, (_, values, indices, *_) = found.cpu(), [t.cpu() for t in operands]
    assert relative_error(found, d_values) < TOLERANCE[dtype]
    assert (found[indices < 0] == 0).all()
    assert (found[(indices >= 0) & (values == 0)] != 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("d", [5, 40])
def test_rows_wider_than_a_program(d, dtype, device, monkeypatch):
    operands = layer(6, d, 8, 3, dtype, device)
    whole = gradients.topk_mlp_backward(*operands)
    monkeypatch.setattr(features, "WIDEST", 4)
    monkeypatch.setattr(features, "SLICE", 16)
    sliced = gradients.topk_mlp_backward(*operands)
    for a, b in zip(sliced, expected_gradients(*operands)[1:], strict=True):
        assert relative_error(a.cpu(), b) < TOLERANCE[dtype]
    assert_same_bits(in_halves(*operands)[0], sliced)
    assert not any(a is b for a, b in zip(whole, sliced, strict=True))


@pytest.mark.parametrize("length", [3, 7])
def test_long_units_are_cut(length, device):
    grad, values, indices, x, _, w_dec = operands = layer(30, 24, 8, 4, device=device)
    by_unit = sort_by_unit(indices, 8)
    assert int(by_unit.counts[0]) > 3 * length, "no unit is long"
    fused = bwd_features(*by_unit[:2], values, dy=grad, x=x, w_dec=w_dec, length=length)
    d_values, _, *expected = expected_gradients(*operands)
    got = fused.d_w_enc, fused.d_b_enc, fused.d_w_dec
    for a, b in zip(got, expected, strict=True):
        assert relative_error(a.cpu(), b) < 1e-6
    assert relative_error(fused.d_values.cpu(), d_values) < 1e-6
    decoder = bwd_features(*by_unit[:2], values, dy=grad, w_dec=w_dec, length=length)
    encoder = bwd_features(*by_unit[:2], grad_values=decoder.d_values, x=x, length=length)
    assert decoder.d_w_enc is encoder.d_w_dec is encoder.d_values is None
    halves = decoder.d_w_dec, encoder.d_w_enc, encoder.d_b_enc, decoder.d_values
    assert all(torch.equal(a, b) for a, b in zip(fused, halves, strict=True))


@pytest.mark.parametrize("rows", [0, 6])
def test_units_without_slots_get_zeros(rows, device):
    """The weights' gradients are allocated full of NaN: every row of them must be written."""
    grad, values, indices, x, w_enc, w_dec = layer(rows, 20, 9, 3, device=device)
    indices, values = indices.fill_(-1), values.zero_()
    d_x, *rest = gradients.topk_mlp_backward(grad, values, indices, x, w_enc, w_dec)
    assert torch.equal(d_x, torch.zeros_like(x))
    for made, like in zip(rest, (w_enc, w_enc[:, 0], w_dec), strict=True):
        assert torch.equal(made, torch.zeros_like(like))


def test_operands_need_not_be_contiguous(device):
    grad, values, indices, x, _, w_dec = layer(6, 8, 9, 3, device=device)
    by_unit = sort_by_unit(indices.T.contiguous().T, 9)
    expected = bwd_features(*by_unit[:2], values, dy=grad, x=x, w_dec=w_dec)
    grad, values, x, w_dec = [t.T.contiguous().T for t in (grad, values, x, w_dec)]
    got = bwd_features(*by_unit[:2], values, dy=grad, x=x, w_dec=w_dec)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_a_unit_that_does_not_exist_is_left_out(device):
    operands = list(layer(6, 8, 9, 3, device=device))
    inside = operands[2].clone()
    operands[2] = inside.where(inside != 0, 9)
    got = gradients.topk_mlp_backward(*operands)[1:]
    operands[2] = inside.where(inside != 0, -1)
    expected = gradients.topk_mlp_backward(*operands)[1:]
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@triton.jit
def note_work(offsets, units, first, pieces, length, width, out):
    unit, begin, end, works, cut = piece(offsets, units, first, pieces, length, width)
    row = out + tl.program_id(0) * 4
    tl.store(row, tl.where(works, unit, -1))
    tl.store(row + 1, begin)
    tl.store(row + 2, end)
    tl.store(row + 3, cut)


@pytest.mark.parametrize(
    "counts, length",
    [([5, 5, 5, 5], 4), ([0, 4, 3, 0], 4), ([9, 0, 1, 8, 0, 4, 5], 4), ([3, 2], 1), ([0], 2)],
)
def test_every_slot_has_one_program(counts, length, device):
    """And every unit one that is not cut, or several of `length` slots that are."""
    offsets = torch.tensor([0, *counts]).cumsum(0).int().to(device)
    split, width = split_long(offsets, sum(counts), length), len(counts)
    programs = len(split.unit) + width
    out = torch.zeros(programs, 4, dtype=torch.int32, device=device)
    note_work[(programs,)](offsets, split.unit, split.first, len(split.unit), length, width, out)
    work = [row for row in out.tolist() if row[0] >= 0]
    expected = []
    for unit, (begin, slots) in enumerate(zip(offsets.tolist(), counts)):
        size = length if slots > length else max(slots, 1)
        for start in range(begin, begin + max(slots, 1), size):
            expected.append([unit, start, min(start + size, begin + slots), slots > length])
    assert sorted(work) == expected


@pytest.mark.parametrize("d", [None, 20, 300])
def test_pieces_are_added_up(d, device):
    """One to nineteen pieces of one slot each, and units that were not cut are left alone."""
    counts = torch.arange(20)
    offsets = torch.cat((counts[:1], counts.cumsum(0))).int().to(device)
    split = split_long(offsets, int(counts.sum()), 1)
    size = () if d is None else (d,)
    partial = normal(len(split.unit), *size).float()
    out = torch.zeros(20, *size)
    expected = out.double()
    for row, unit in enumerate(split.unit.tolist()):
        if unit < 20:
            expected[unit] += partial[row].double()
    got = out.to(device)
    join(partial.to(device), got, offsets, split)
    assert (expected.abs().view(20, -1).sum(1) > 0).tolist() == [False] * 2 + [True] * 18
    assert relative_error(got.cpu(), expected) < 1e-6


def test_the_workspace_is_bounded():
    for slots in (0, 1000, 2**20, 2**23, 2**30):
        length = split_length(slots)
        assert 2 * (slots // length) <= 2**13
        assert length == 128 or slots / length > 2**11
