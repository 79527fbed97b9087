"""Grouped products against a matrix for each row, and as torch sees them."""

import pytest
import torch

from pellucid.kernels.grouped import grouped_outer, grouped_products

ENDS = {"uneven": [3, 3, 10, 11], "last empty": [4, 11, 11, 11], "one": [0, 0, 11, 11]}


def given(ends: list[int], dtype=torch.float64) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_()
        for shape in ((11, 5), (4, 5, 7))
    )
    return x, weight, torch.tensor(ends)


def of_rows(ends: torch.Tensor) -> torch.Tensor:
    """The group of each row."""
    return (torch.arange(11)[:, None] >= ends).sum(1)


@pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS)
def test_each_row_meets_the_matrix_of_its_group(ends):
    x, weight, ends = given(ends)
    plain = torch.einsum("rd, rdo -> ro", x, weight[of_rows(ends)])
    found = grouped_products(x, weight, ends)
    assert torch.allclose(found, plain, atol=1e-13)
    out = torch.randn(11, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad((plain * out).sum(), (x, weight))
    for a, b in zip(torch.autograd.grad((found * out).sum(), (x, weight)), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-13)


def test_a_transposed_weight_has_its_gradient_too():
    x, weight, ends = given(ENDS["uneven"])
    assert torch.autograd.gradcheck(
        lambda x, w: grouped_products(x, w.mT, ends), (x, weight.detach().mT.requires_grad_())
    )


@pytest.mark.clean_memory
def test_opcheck():
    x, weight, ends = given(ENDS["uneven"])
    torch.library.opcheck(torch.ops.pellucid.grouped_products.default, (x, weight, ends))
    y = x.detach()[:, :3]
    torch.library.opcheck(grouped_outer, (x.detach(), y, ends))


def test_autocast_gives_the_dtype_of_a_linear_layer():
    x, weight, ends = given(ENDS["uneven"], dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = grouped_products(x, weight, ends)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, grouped_products(x.bfloat16(), weight.bfloat16(), ends))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, w, e: (x, w, e[:3]), "int64 end for each of 4 groups"),
        (lambda x, w, e: (x, w, e.int()), "int64 end for each of 4 groups"),
        (lambda x, w, e: (x[:, :4], w, e), "rows of 5 channels"),
        (lambda x, w, e: (x, w.float(), e), "weight must have the dtype of x"),
    ],
)
def test_what_does_not_agree_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        grouped_products(*change(*given(ENDS["uneven"])))
