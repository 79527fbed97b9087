"""Slots sorted by unit, against a plain loop; and that nothing waits for a tensor's values."""

import pytest
import torch
from support.slots import random_slots
from torch._subclasses.fake_tensor import FakeTensorMode

from pellucid.kernels import reference
from pellucid.kernels.csc import sort_by_unit, unit_of_slots
from pellucid.kernels.gpu.split import split_long

# The type of the keys changes at 2**16.
WIDTHS = [1, 12, 2**15, 2**16 - 1, 2**16, 70000]


def edge_indices(width):
    """Every border of a range of units, -1 and what lies outside, in several rows."""
    edges = [-1, 0, width // 2, 2**15 - 1, 2**15, 2**16 - 2, 2**16 - 1, 2**16, width - 1, width]
    row = torch.tensor(edges, dtype=torch.int32)
    return torch.stack([row, row.flip(0), row.roll(3)])


@pytest.mark.parametrize("width", WIDTHS)
def test_slots_come_by_unit_and_then_by_row(width):
    indices = edge_indices(width)
    made = sort_by_unit(indices, width)
    offsets, slots, counts = reference.csc_build(indices, width)
    assert torch.equal(made.offsets, offsets) and torch.equal(made.counts, counts)
    used = int(counts.sum())
    assert torch.equal(made.slots[:used], slots[:used])
    assert sorted(made.slots.tolist()) == list(range(indices.numel()))
    assert {t.dtype for t in made} == {torch.int32}
    inside = indices.where((indices >= 0) & (indices < width), -1)
    assert torch.equal(unit_of_slots(made.offsets, made.slots, indices), inside)


def test_the_definition_by_hand():
    indices = torch.tensor([[2, -1], [0, 2], [4, 0]], dtype=torch.int32)
    offsets, slots, counts = reference.csc_build(indices, 4)
    assert offsets.tolist() == [0, 2, 2, 4, 4] and counts.tolist() == [2, 0, 2, 0]
    assert slots.tolist() == [2, 5, 0, 3, 1, 4]


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_no_slots(shape):
    made = sort_by_unit(torch.zeros(shape, dtype=torch.int32), 5)
    assert made.offsets.tolist() == [0] * 6
    assert (made.slots.tolist(), made.counts.tolist()) == ([], [0] * 5)


def test_no_size_depends_on_a_value():
    """What reads a value back raises here, as it would make a GPU wait."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        indices = mode.from_tensor(random_slots(8, 4, 30)[1])
        made = sort_by_unit(indices, 30)
        split = split_long(made.offsets, len(made.slots), 2)
        assert unit_of_slots(made.offsets, made.slots, indices).shape == (8, 4)
    assert [len(t) for t in (*made, split.unit)] == [31, 32, 30, 32]
