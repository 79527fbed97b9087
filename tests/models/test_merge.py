"""Slots of one unit become one: sums, order, gradients."""

import torch

from pellucid.models.activations import canonical, merge


def test_slots_of_one_unit_are_summed_into_its_first():
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0], [1.0, 2.0, 4.0, 0.0]])
    indices = torch.tensor([[5, 2, 5, 5], [3, 3, 0, -1]], dtype=torch.int32)
    total, units = merge(values, indices, 3)
    assert units.dtype == torch.int32
    assert units.tolist() == [[2, 5, -1, -1], [-1, 0, 3, -1]]
    assert total.tolist() == [[2.0, 13.0, 0.0, 0.0], [0.0, 4.0, 3.0, 0.0]]
    tidy = canonical(total, units, 6)
    assert tidy.indices.tolist() == [[2, 5, -1, -1], [0, 3, -1, -1]]


def test_sums_and_gradients_are_those_of_a_dense_sum():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(50, 12, dtype=torch.float64, generator=generator, requires_grad=True)
    lists = [torch.rand(50, 9, generator=generator).argsort(1)[:, :4] for _ in range(3)]
    indices = torch.cat(lists, 1).int()
    total, units = merge(values, indices, 3)
    dense = torch.zeros(50, 9, dtype=torch.float64).scatter_add(1, indices.long(), values)
    spread = torch.zeros(50, 10, dtype=torch.float64)
    spread = spread.scatter_add(1, torch.where(units < 0, 9, units).long(), total)
    assert torch.allclose(spread[:, :9], dense, atol=1e-14)
    assert not spread[:, 9].any()
    weights = torch.randn(50, 9, dtype=torch.float64, generator=generator)
    got = torch.autograd.grad((spread[:, :9] * weights).sum(), values, retain_graph=True)[0]
    wanted = torch.autograd.grad((dense * weights).sum(), values)[0]
    assert torch.equal(got, wanted)
