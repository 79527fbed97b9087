"""Product keys: the top k of n² sums, found from two lists of n."""

import pytest
import torch

from pellucid.models.product_keys import product_topk, selected_second_moment


def brute(first: torch.Tensor, second: torch.Tensor, k: int):
    """Every sum, sorted; among equals the lowest place first."""
    sums = (first[:, :, None] + second[:, None, :]).flatten(1)
    places = sums.argsort(dim=-1, descending=True, stable=True)[:, :k].sort(-1).values
    return sums.gather(1, places), places


def halves(n: int, rows: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(
        torch.randn(2, rows, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    )


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 3), (4, 16), (16, 5), (7, 49), (32, 20)])
def test_it_is_the_top_k_of_all_sums(n, k):
    values, places = product_topk(*halves(n), k)
    expected = brute(*halves(n), k)
    assert torch.equal(values, expected[0])
    assert torch.equal(places.long(), expected[1])
    assert places.dtype == torch.int32


def test_gradients_reach_the_chosen_halves_alone():
    first, second = (half.requires_grad_() for half in halves(6, rows=3))
    weights = torch.arange(1.0, 13.0, dtype=torch.float64).view(3, 4)
    found = torch.autograd.grad(
        (product_topk(first, second, 4)[0] * weights).sum(), [first, second]
    )
    expected = torch.autograd.grad((brute(first, second, 4)[0] * weights).sum(), [first, second])
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b)
        assert (a == 0).any()


@pytest.mark.parametrize(("n", "k"), [(4, 2), (11, 8), (28, 8), (5, 25)])
def test_the_mean_square_of_what_is_chosen(n, k):
    first, second = torch.randn(2, 4000, n, generator=torch.Generator().manual_seed(7))
    mean = float(brute(first, second, k)[0].square().mean())
    assert selected_second_moment(n, k) == pytest.approx(mean, rel=0.1)
