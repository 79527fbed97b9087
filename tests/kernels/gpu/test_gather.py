"""The decoder and the products at places against their dense definitions in float64."""

import pytest
import torch
from support.slots import normal, random_slots, relative_error

from pellucid.kernels import reference
from pellucid.kernels.gpu.decode import sparse_decode
from pellucid.kernels.gpu.sddmm import sddmm

# rows, d, width, k: d of no power of two, of no multiple of 8, of several slices; ragged k
SHAPES = [
    (7, 5, 37, 3),
    (4, 24, 50, 11),
    (3, 300, 40, 5),
    (2, 128, 19, 18),
    (5, 12, 9, 1),
    (0, 8, 10, 2),
]
# Below float32 the interpreter rounds bfloat16 wrongly, and float16 as a GPU does.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3}
if torch.cuda.is_available():
    TOLERANCE[torch.bfloat16] = 1e-2


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows, d, width, k", SHAPES)
def test_decoder(rows, d, width, k, dtype, device):
    values, indices = random_slots(rows, k, width)
    values, weight = values.to(dtype), normal(width, d).to(dtype)
    expected = reference.sparse_decode(values.double(), indices, weight.double())
    slots = values.to(device), indices.to(device), weight.to(device)
    got = sparse_decode(*slots)
    assert got.dtype == dtype
    assert relative_error(got.cpu(), expected) < TOLERANCE[dtype]
    assert torch.equal(got, sparse_decode(*slots))
    wide = sparse_decode(*slots, out_dtype=torch.float32)
    assert wide.dtype == torch.float32
    assert relative_error(wide.cpu(), expected) < 1e-6


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows, d, width, k", SHAPES)
def test_products(rows, d, width, k, dtype, device):
    _, indices = random_slots(rows, k, width)
    x, weight = normal(rows, d).to(dtype), normal(width, d, seed=2).to(dtype)
    expected = reference.sddmm(x.double(), weight.double(), indices)
    operands = x.to(device), weight.to(device), indices.to(device)
    got = sddmm(*operands)
    assert got.dtype == dtype
    assert relative_error(got.cpu(), expected) < TOLERANCE[dtype]
    assert (got.cpu()[indices < 0] == 0).all()
    assert torch.equal(got, sddmm(*operands))


def test_all_slots_unused_reads_nothing(device):
    values = torch.zeros(3, 4, device=device)
    indices = torch.full((3, 4), -1, dtype=torch.int32, device=device)
    weight = torch.full((6, 8), float("nan"), device=device)
    assert torch.equal(sparse_decode(values, indices, weight), torch.zeros(3, 8, device=device))
    assert torch.equal(sddmm(weight[:3], weight, indices), torch.zeros(3, 4, device=device))


def test_no_slots_at_all(device):
    values, indices = torch.zeros(3, 0), torch.zeros(3, 0, dtype=torch.int32)
    got = sparse_decode(values.to(device), indices.to(device), torch.ones(6, 8, device=device))
    assert torch.equal(got.cpu(), torch.zeros(3, 8))


def test_padding_reads_nothing_before_or_in_the_matrix(device):
    """What lies before row 0, and row 0, are NaN; the padded slots could only meet these."""
    memory = torch.ones(6, 8, device=device)
    memory[:2] = float("nan")
    weight = memory[1:]
    indices = torch.tensor([[3, -1, -1, 4]], dtype=torch.int32, device=device)
    values = torch.tensor([[2.0, float("nan"), 0.0, 5.0]], device=device)
    assert torch.equal(sparse_decode(values, indices, weight).cpu(), torch.full((1, 8), 7.0))
    assert sddmm(weight[1:2], weight, indices).tolist() == [[8.0, 0.0, 0.0, 8.0]]


def test_a_unit_that_does_not_exist_makes_itself_seen(device):
    weight = torch.ones(5, 8, device=device)
    indices = torch.tensor([[1, 5], [1, 4]], dtype=torch.int32, device=device)
    values = torch.ones(2, 2, device=device)
    out = sparse_decode(values, indices, weight)
    assert out[0].isnan().all()
    assert out[1].tolist() == [2.0] * 8
    dots = sddmm(torch.ones(2, 8, device=device), weight, indices)
    assert dots.isnan().tolist() == [[False, True], [False, False]]


def test_operands_need_not_be_contiguous(device):
    values, indices = random_slots(6, 4, 20)
    values, weight = values.float().to(device), normal(16, 20).float().to(device).T
    slots = values.T.contiguous().T, indices.to(device).T.contiguous().T
    expected = sparse_decode(values, indices.to(device), weight.contiguous())
    assert torch.equal(sparse_decode(*slots, weight), expected)
    x = normal(16, 6).float().to(device).T
    expected = sddmm(x.contiguous(), weight.contiguous(), indices.to(device))
    assert torch.equal(sddmm(x, weight, slots[1]), expected)
