"""The encoder by chunks of rows: indices and values of the definition, where arithmetic is exact."""

import pytest
import torch

from pellucid.kernels import reference
from pellucid.kernels.gpu import encode


def whole_inputs(n_rows, d, width):
    """Small whole numbers by powers of two: exact however they are summed, and full of ties."""
    generator = torch.Generator().manual_seed(1)

    def whole(*size):
        return torch.randint(-2, 3, size, generator=generator).float()

    return whole(n_rows, d) / 4, whole(width, d) / 4, whole(width) / 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("n_rows, d, width, k", [(7, 5, 37, 1), (3, 8, 1300, 24), (0, 4, 30, 3)])
def test_agrees_with_the_definition(n_rows, d, width, k, signed, dtype, device):
    inputs = whole_inputs(n_rows, d, width)
    values, indices = encode.encode_topk(*(t.to(device, dtype) for t in inputs), k, signed)
    expected = reference.encode_topk(*inputs, k, signed=signed)
    assert values.dtype == dtype and indices.dtype == torch.int32
    assert torch.equal(indices.cpu(), expected[1])
    assert torch.equal(values.cpu().float(), expected[0])


@pytest.mark.parametrize("signed", [False, True])
def test_few_or_no_active_units(signed, device):
    x, w_enc, _ = whole_inputs(12, 6, 90)
    x[::3] = 0
    for bias in (-9.0, -0.25, 0.0):
        inputs = x, w_enc, torch.full((90,), bias)
        values, indices = encode.encode_topk(*(t.to(device) for t in inputs), 20, signed)
        expected = reference.encode_topk(*inputs, 20, signed=signed)
        assert torch.equal(indices.cpu(), expected[1])
        assert torch.equal(values.cpu(), expected[0])


def test_several_chunks_of_rows(monkeypatch, device):
    monkeypatch.setattr(encode, "BUFFER_BYTES", 1)
    monkeypatch.setattr(encode, "MIN_CHUNK_ROWS", 4)
    inputs = whole_inputs(11, 6, 70)
    slots = torch.empty(11, 5, device=device), torch.empty(11, 5, device=device, dtype=torch.int32)
    encode.encode_topk(*(t.to(device) for t in inputs), 5, False, slots)
    for got, wanted in zip(slots, reference.encode_topk(*inputs, 5), strict=True):
        assert torch.equal(got.cpu(), wanted)
