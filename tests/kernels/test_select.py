"""`topk_rows`: which entries it takes, in every awkward row."""

import pytest
import torch

from pellucid.kernels import dense, reference, topk_rows
from pellucid.kernels.select import _largest


def assert_rows_agree(x, k, signed):
    values, indices = topk_rows(x, k, signed=signed)
    expected_values, expected_indices = reference.topk_rows(x, k, signed=signed)
    assert torch.equal(indices, expected_indices)
    assert torch.equal(values.nan_to_num(nan=1e9), expected_values.nan_to_num(nan=1e9))
    assert torch.equal(dense.topk_rows(x, k, signed)[1], expected_indices)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "rows, width, k",
    [(9, 1, 1), (9, 50, 1), (9, 50, 50), (20, 1003, 7), (20, 2048, 33), (6, 9001, 3)],
)
def test_rows_of_every_kind(rows, width, k, dtype, signed):
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    for kind in (x, x.abs().neg(), (4 * x).round() / 4, x.relu(), x.sign(), torch.zeros_like(x)):
        assert_rows_agree(kind, k, signed)
    assert_rows_agree(x.masked_fill(x > 0.5, float("nan")), k, signed)
    assert_rows_agree(x.masked_fill(x.abs() > 0.5, float("inf")), k, signed)
    assert_rows_agree(x.masked_fill(x < 2.5, float("-inf")), k, signed)


def test_one_tie_outside_every_chosen_group():
    """Equal maxima in more groups than are looked at: the lowest columns must still win."""
    x = torch.zeros(1, 4096)
    x[0, 4000:] = 1.0
    x[0, [5, 9]] = 1.0
    assert topk_rows(x, 4)[1].tolist() == [[5, 9, 4000, 4001]]


def test_by_hand():
    x = torch.tensor([[3.0, -5.0, 3.0, 1.0], [0.0, -0.0, 0.0, -1.0]])
    values, indices = topk_rows(x, 2)
    assert (values.tolist(), indices.tolist()) == ([[3, 3], [0, 0]], [[0, 2], [0, 1]])
    values, indices = topk_rows(x, 2, signed=True)
    assert (values.tolist(), indices.tolist()) == ([[3, -5], [0, -1]], [[0, 1], [0, 3]])


def test_pruning_keeps_the_largest():
    x = torch.randn(50, 5000, generator=torch.Generator().manual_seed(0))
    values, indices = _largest(x, 40)
    assert torch.equal(x.gather(1, indices), values)
    assert torch.equal(values.sort(descending=True).values, x.topk(40).values)


def test_gradient_goes_to_what_was_taken():
    x = torch.randn(6, 90, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: topk_rows(t, 5)[0], (x,))
    assert torch.autograd.gradcheck(lambda t: topk_rows(t, 5, signed=True)[0], (x,))


def test_rows_that_are_not_contiguous():
    x = torch.randn(3000, 20, generator=torch.Generator().manual_seed(0))
    assert_rows_agree(x.T, 30, False)
    assert_rows_agree(x.T[::2, ::3], 30, True)
    assert_rows_agree(x[:1].expand(5, 20), 3, False)
