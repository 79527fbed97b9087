"""The Triton projection of weights, in the interpreter where there is no GPU, and what is compiled."""

import pytest
import torch

from pellucid.kernels import reference
from pellucid.kernels.gpu import shipped, weight_entries, weight_lines, weight_topk
from pellucid.kernels.gpu.weight_topk import TritonEntries, guard_lines
from pellucid.kernels.weight_keys import highest
from pellucid.kernels.weight_library import guard_lines as guard_lines_by_library
from pellucid.kernels.weight_radix import LibraryEntries, digits, pick

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
INTEGERS = {2: torch.int16, 4: torch.int32}
MODULES = ["weight_digits", "weight_lines", "weight_topk"]


@pytest.fixture
def small_blocks(monkeypatch):
    """Matrices of a few rows have several blocks, programs of several blocks, and several tiles."""
    monkeypatch.setattr(weight_topk, "BLOCK", 64)
    monkeypatch.setattr(weight_topk, "PROGRAMS", 4)
    monkeypatch.setattr(weight_lines, "TILE", 64)


def bits(tensor):
    return tensor.view(INTEGERS[tensor.itemsize])


def random(shape, seed=0, dtype=torch.float32):
    """With ties, zeros of both signs, infinities, and NaN of two kinds."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x = (2 * x).round() / 2
    x = x.where(x != 2.5, float("nan")).where(x != -2.5, float("-inf"))
    x = x.to(dtype)
    other = x.isnan() & (torch.arange(x.numel()).view(shape) % 2 == 0)
    return bits(x).masked_fill(other, -1).view(dtype)


def assert_projected(device, weights, keep, per_row, per_column):
    masks = [
        reference.weight_topk_mask(weight, count, per_row=row, per_column=column)
        for weight, count, row, column in zip(weights, keep, per_row, per_column, strict=True)
    ]
    cut = [weight.to(device) for weight in weights]
    cut = [c.clone() for c in cut]
    weight_topk.weight_topk_(cut, keep, per_row, per_column)
    for c, weight, mask in zip(cut, weights, masks, strict=True):
        assert torch.equal(bits(c.cpu()), bits(weight).where(mask, 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_matrices_in_one_call(dtype, small_blocks, device):
    """Of even and odd sizes, smaller than a block and of several programs."""
    shapes = [(16, 33), (1, 7), (5, 64), (3, 3), (1, 1), (20, 16), (2, 130)]
    weights = [random(shape, seed, dtype) for seed, shape in enumerate(shapes)]
    keep = [100, 2, 320, 1, 1, 37, 259]
    assert_projected(device, weights, keep, [0] * 7, [0] * 7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_nan_ranks_alike(dtype, small_blocks, device):
    """The cut falls among NaN of two kinds, and guarded entries come before them."""
    weight = random((4, 48), 1).where(torch.arange(48) > 5, float("nan")).to(dtype)
    weight = bits(weight).masked_fill(torch.arange(48) % 3 == 1, -1).view(dtype)
    assert_projected(device, [weight, weight.clone()], [11, 30], [0, 7], [0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_guarded_rows_and_columns(dtype, small_blocks, device):
    """Some matrices guard rows, some columns, both or neither, and guards may be more than keep."""
    shapes = [(16, 35), (9, 16), (16, 16), (3, 5), (7, 11)]
    weights = [random(shape, 10 + seed, dtype) for seed, shape in enumerate(shapes)]
    assert_projected(device, weights, [90, 20, 1, 6, 0], [3, 0, 1, 0, 2], [0, 2, 1, 0, 3])


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_entries_of_each_line(dtype, columns, monkeypatch, device):
    """Counted bit by bit; the bounds of in-turn selection and of the library are the same."""
    monkeypatch.setattr(weight_lines, "TILE", 256)
    weights = [random((6, 70), 20, dtype), random((5, 20), 21, dtype)]
    if columns:
        weights = [weight.T.contiguous() for weight in weights]
    for j in ([17, 20], [3, weight_lines.MANY - 1]):
        found = guard_lines([weight.to(device) for weight in weights], j, columns=columns)
        expected = guard_lines_by_library(weights, j, columns=columns)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a.cpu().long(), b)
    none, some = [0, 0], [3, 1]
    assert_projected(device, weights, none, *((none, some) if columns else (some, none)))


def test_blocks_of_the_size_that_ships(device):
    weight = random((130, 64), 5)
    assert weight.numel() > 4 * weight_entries.BLOCK
    assert_projected(device, [weight], [3000], [0], [0])


@pytest.mark.parametrize("guards", [(0, 0), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_of_a_matrix(dtype, guards, small_blocks, device):
    """What the processes of a group do: counts, and ties by the rows before; one part has no row."""
    weight, keep = random((15, 33), 7, dtype), 120
    mask = reference.weight_topk_mask(weight, keep, per_row=guards[0], per_column=guards[1])
    rows, columns = [
        guard_lines_by_library([weight], [j], columns=c)[0] for j, c in zip(guards, (False, True))
    ]
    cuts, parts = (0, 8, 15), []
    for first, end in ((0, 8), (8, 15), (15, 15)):
        local = weight[first:end].clone().to(device)
        bounds = [None if rows is None else rows[first:end], columns]
        mine = [[None if part is None else part.to(device)] for part in bounds]
        entries = TritonEntries([local], *mine, [first])
        twin = LibraryEntries([weight[first:end].clone()], *[[part] for part in bounds], [first])
        parts.append((local, entries, twin))
    prefix, room = torch.zeros(1, dtype=torch.int64), torch.tensor([keep])
    for shift, above in digits(dtype, 8):
        counts = [entries.counts(prefix.to(device), shift, above).cpu() for _, entries, _ in parts]
        for count, (_, _, twin) in zip(counts, parts, strict=True):
            assert torch.equal(count, twin.counts(prefix, shift, above))
        digit, room = pick(sum(counts), room)
        prefix = (prefix << (above - shift)) | digit
    assert int(prefix) < highest(dtype) and cuts[-1] == len(weight)
    for count, (_, entries, _) in zip(counts, parts, strict=True):
        entries.cut(prefix.to(device), room.clamp(min=0).to(device))
        room = room - count[0, digit]
    found = torch.cat([local.cpu() for local, _, _ in parts])
    assert torch.equal(bits(found), bits(weight).where(mask, 0))


def test_addresses_that_are_not_even(small_blocks, device):
    buffer = random((1, 301), 8).to(device)
    weight = buffer[:, 1:257]
    assert not weight_topk.is_even(weight) and weight_topk.is_even(buffer[:, :256])
    mask = reference.weight_topk_mask(weight.cpu(), 50)
    expected = bits(weight.cpu()).where(mask, 0)
    outside = buffer[:, 257:].clone()
    weight_topk.weight_topk_([weight], [50], [0], [0])
    assert torch.equal(bits(weight.cpu()), expected)
    assert torch.equal(bits(buffer[:, 257:]), bits(outside))


@pytest.mark.parametrize(
    "instruction, counted",
    [
        ("atom.shared.add.u32", 0),
        ("atom.relaxed.cta.shared::cta.add.s32", 0),
        ("red.shared.add.u64", 0),
        ("atom.shared.add.f32", 1),
        ("atom.global.gpu.acq_rel.add.f32", 1),
        ("red.global.add.u32", 1),
        ("atom.add.noftz.bf16", 1),
    ],
)
def test_only_integers_in_shared_memory_may_be_added_atomically(instruction, counted):
    assert shipped._atomics(f"  @%p1 {instruction} %r1, [%r2], %r3;") == counted
