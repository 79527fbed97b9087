"""`topk_rows`: which entries it takes, in every awkward row."""

import pytest
import torch

from pellucid.kernels import cpu, dense, keep_topk, reference, select, topk_rows
from pellucid.kernels.select import top_indices


def assert_rows_agree(x, k, signed, relu=False):
    expected_values, expected_indices = reference.topk_rows(x, k, signed=signed, relu=relu)
    for values, indices in (
        topk_rows(x, k, signed=signed, relu=relu),
        dense.topk_rows(x, k, signed, relu),
    ):
        assert values.dtype == x.dtype and indices.dtype == torch.int32
        assert torch.equal(indices, expected_indices)
        assert torch.equal(values.nan_to_num(nan=1e9), expected_values.nan_to_num(nan=1e9))
    if not relu:
        dropped = torch.ones_like(x, dtype=torch.bool).scatter(1, expected_indices.long(), False)
        assert torch.equal(dense.topk_dropped(x, k, signed), dropped)
        kept = keep_topk(x, k, signed=signed)
        expected = torch.zeros_like(x).scatter(1, expected_indices.long(), expected_values)
        assert torch.equal(kept.nan_to_num(nan=1e9), expected.nan_to_num(nan=1e9))


@pytest.mark.parametrize("signed, relu", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "rows, width, k",
    [(9, 1, 1), (9, 50, 1), (9, 50, 50), (20, 1003, 7), (20, 2048, 33), (6, 9001, 3)],
)
def test_rows_of_every_kind(rows, width, k, dtype, signed, relu):
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    for kind in (x, x.abs().neg(), (4 * x).round() / 4, x.relu(), x.sign(), torch.zeros_like(x)):
        assert_rows_agree(kind, k, signed, relu)
    assert_rows_agree(x.masked_fill(x > 0.5, float("nan")), k, signed, relu)
    assert_rows_agree(x.masked_fill(x.abs() > 0.5, float("inf")), k, signed, relu)
    assert_rows_agree(x.masked_fill(x < 2.5, float("-inf")), k, signed, relu)


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


def test_what_is_not_kept_by_hand():
    """0 and of gradient 0, infinities and NaN too; among equals the lowest columns are kept."""
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([[3.0, -5, 3, 1], [0, -0.0, 0, -1], [-inf, 2, nan, 9]], requires_grad=True)
    kept = keep_topk(x, 2)
    assert kept[:2].tolist() == [[3, 0, 3, 0], [0, 0, 0, 0]]
    assert kept[2, [0, 1, 3]].tolist() == [0, 0, 9] and kept[2, 2].isnan()
    kept.backward(torch.tensor([[1.0, nan, 2, inf], [3, 4, nan, nan], [inf, nan, 5, 6]]))
    assert x.grad.tolist() == [[1, 0, 2, 0], [3, 4, 0, 0], [0, 0, 5, 6]]
    assert keep_topk(x, 2, signed=True)[:2].tolist() == [[3, -5, 0, 0], [0, 0, 0, -1]]
    assert torch.equal(keep_topk(x[:2], 4), x[:2])


def test_relu_by_hand():
    """What is not positive is no entry at all; NaN is one, and the first."""
    nan = float("nan")
    x = torch.tensor(
        [[-1.0, 2.0, 0.0, 2.0], [-1, -0.0, 0, -9], [5, nan, -2, 1], [nan, nan, nan, nan]]
    )
    values, indices = topk_rows(x, 2, relu=True)
    assert indices.tolist() == [[1, 3], [-1, -1], [0, 1], [0, 1]]
    assert values[:2].tolist() == [[2, 2], [0, 0]]
    assert values[2, 0] == 5 and values[2:].isnan().tolist() == [[False, True], [True, True]]
    assert topk_rows(x[:1], 3, relu=True)[1].tolist() == [[1, 3, -1]]


@pytest.mark.parametrize("width", [200, 257, 600, 611, 2048, 9001])
def test_strange_rows_alone_and_among_others(width):
    """Ties, large entries side by side, NaN, -inf: no row disturbs another."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(9, width, generator=g) + 4
    strange = x.clone()
    strange[0] = 3.0
    strange[1] = torch.arange(width)
    strange[2, : width // 2] += 9
    strange[3, 5:9] = float("nan")
    strange[4, :-8] = -float("inf")
    strange[5] = -float("inf")
    for row in range(6):
        mixed = x.clone()
        mixed[4] = strange[row]
        for rows in (mixed, strange[row : row + 1].expand(9, -1), strange):
            expected = reference.topk_rows(rows, 9)[1]
            assert torch.equal(top_indices(rows, 9), expected.long())


def test_a_row_with_a_tie_beside_one_with_too_few():
    """The positions of all rows are as many as wanted, and yet not those of each row."""
    x = torch.arange(40.0).view(2, 20)
    x[0, 17] = x[0, 18] = x[0, 19]
    x[1, 18:] = float("nan")
    assert top_indices(x, 2).tolist() == [[17, 18], [18, 19]]
    x[1] = torch.arange(20.0)
    x[1, 0] = float("nan")
    assert top_indices(x, 2).tolist() == [[17, 18], [0, 19]]


def test_without_numpy_the_same_entries_are_taken(monkeypatch):
    monkeypatch.setattr(select, "np", None)
    test_strange_rows_alone_and_among_others(611)
    test_integer_keys()


@pytest.mark.parametrize("numpy", [True, False])
def test_as_many_nan_as_ties_too_many(monkeypatch, numpy):
    """As many entries reach the k-th as are wanted, and yet they are not the ones."""
    if not numpy:
        monkeypatch.setattr(select, "np", None)
    nan = float("nan")
    assert top_indices(torch.tensor([[nan, 1.0, 1.0], [1, 1, nan]]), 2).tolist() == [[0, 1], [0, 2]]
    wide = torch.zeros(2, 4096)
    wide[:, 7], wide[0, 3000:3004], wide[1, 2:6] = nan, 5.0, 5.0
    assert top_indices(wide, 4).tolist() == [[7, 3000, 3001, 3002], [2, 3, 4, 7]]
    x = torch.tensor([[nan, 0.0, 0.0]])
    assert topk_rows(x, 2, relu=True)[1].tolist() == [[0, -1]]


@pytest.mark.parametrize("seed", range(20))
def test_few_values_many_ties_and_nan(seed):
    g = torch.Generator().manual_seed(seed)
    width = int(torch.randint(2, 700, (), generator=g))
    k = int(torch.randint(1, width, (), generator=g))
    values = torch.tensor([float("nan"), -torch.inf, -0.0, 0.0, 1.0, 2.0, torch.inf])
    shares = torch.rand(7, generator=g).square()
    drawn = torch.multinomial(shares, 11 * width, replacement=True, generator=g).view(11, width)
    x = values[drawn]
    assert torch.equal(top_indices(x, k), reference.topk_rows(x, k)[1].long())


def test_integer_keys():
    x = torch.randint(-99, 99, (7, 1000), generator=torch.Generator().manual_seed(0))
    for dtype in (torch.int16, torch.int32, torch.int64):
        expected = x.to(dtype).sort(dim=-1, descending=True, stable=True).indices[:, :11]
        assert torch.equal(top_indices(x.to(dtype), 11), expected.sort(dim=-1).values)


def test_gradient_goes_to_what_was_taken():
    x = torch.randn(6, 90, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: topk_rows(t, 5)[0], (x,))
    assert torch.autograd.gradcheck(lambda t: topk_rows(t, 5, signed=True)[0], (x,))
    sparse = (x.detach() - 1.5).requires_grad_()  # rows with fewer positive entries than slots
    assert 0 < int((topk_rows(sparse, 9, relu=True)[1] < 0).sum()) < 6 * 9
    assert torch.autograd.gradcheck(lambda t: topk_rows(t, 9, relu=True)[0], (sparse,))


@pytest.mark.parametrize("path", [cpu, dense])
def test_slots_not_in_use_get_no_gradient(path):
    x = torch.tensor([[3.0, -1.0, -2.0, 1.0], [-1.0, -2.0, -3.0, 0.0]])
    indices = path.topk_rows(x, 3, False, True)[1]
    grad = torch.tensor([[10.0, 20.0, float("nan")], [30.0, 40.0, 50.0]])
    expected = [[10, 0, 0, 20], [0, 0, 0, 0]]
    assert path.topk_rows_backward(grad, indices, 4).tolist() == expected


def test_rows_that_are_not_contiguous():
    x = torch.randn(3000, 20, generator=torch.Generator().manual_seed(0))
    assert_rows_agree(x.T, 30, False)
    assert_rows_agree(x.T[::2, ::3], 30, True)
    assert_rows_agree(x[:1].expand(5, 20), 3, False)
