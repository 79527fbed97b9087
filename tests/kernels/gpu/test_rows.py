"""The row-wise selection on the GPU, or in the interpreter, against its definition, exactly."""

import pytest
import torch

from pellucid.kernels import reference
from pellucid.kernels.gpu import rows

FLAGS = [(False, False), (False, True), (True, False), (True, True)]


@pytest.fixture
def tight(monkeypatch):
    """Limits so low that short rows take several levels, and several tiles a row."""
    monkeypatch.setattr(rows, "LIMIT", 128)
    monkeypatch.setattr(rows, "DIRECT", 32)
    monkeypatch.setattr(rows, "TILE_BYTES", 1024)


def normal(n_rows, width, seed=0):
    return torch.randn(n_rows, width, generator=torch.Generator().manual_seed(seed))


def expected_of(x, k, signed, drop):
    values, indices = reference.topk_rows(x, k, signed=signed)
    if not drop:
        return values, indices
    return reference.drop_inactive(values if signed else values.relu(), indices)


def assert_agrees(x, k, signed=False, drop=False):
    """x is on the device already. Values are equal, NaN too, and have their sign if not dropped."""
    values, indices = rows.topk_rows(x, k, signed, drop)
    expected_values, expected_indices = expected_of(x.cpu(), k, signed, drop)
    assert indices.dtype == torch.int32 and values.dtype == x.dtype
    assert torch.equal(indices.cpu(), expected_indices)
    torch.testing.assert_close(values.cpu(), expected_values, rtol=0, atol=0, equal_nan=True)
    number = ~expected_values.isnan()
    assert drop or torch.equal(values.cpu()[number].signbit(), expected_values[number].signbit())


def awkward(width, dtype):
    """Rows that are awkward in every way, from a normal one."""
    x = normal(1, width).to(dtype)
    nan, inf = float("nan"), float("inf")
    kinds = (
        x,
        (2 * x).round() / 2,  # ties, and -0 among them
        x.relu(),
        x.abs().neg(),
        torch.zeros_like(x),
        torch.full_like(x, -3.0),
        x.masked_fill(x > 0.5, nan),
        x.masked_fill(x > 1.0, -nan).masked_fill(x < -1.0, inf),
        x.masked_fill(x < 1.0, -inf),
        torch.full_like(x, nan),
    )
    return torch.cat(kinds)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("signed, drop", FLAGS)
@pytest.mark.parametrize(
    "width, k", [(1, 1), (5, 2), (31, 7), (100, 100), (1000, 33), (4097, 1), (1100, 130)]
)
def test_rows_of_every_kind(width, k, signed, drop, dtype, device):
    assert_agrees(awkward(width, dtype).to(device), k, signed, drop)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("signed, drop", FLAGS)
def test_several_levels(tight, signed, drop, dtype, device, monkeypatch):
    levels = []
    maxima = rows._group_maxima
    monkeypatch.setattr(rows, "_group_maxima", lambda *a: levels.append(a[1]) or maxima(*a))
    assert_agrees(awkward(1001, dtype).to(device), 13, signed, drop)
    assert len(levels) >= 2


def test_many_shapes(tight, device):
    generator = torch.Generator().manual_seed(1)

    def whole(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    for case in range(50):
        width = whole(1, 400)
        k = whole(1, min(width, 64))
        x = normal(whole(1, 3), width, seed=case)
        if whole(0, 1):
            x = (whole(1, 3) * x).round()  # few values, many ties
        dtype = (torch.float32, torch.bfloat16, torch.float16)[whole(0, 2)]
        assert_agrees(x.to(device, dtype), k, *FLAGS[whole(0, 3)])


def test_equal_entries_on_both_sides_of_every_border(tight, device):
    """The entries above the threshold crowd one group, the last one wanted is alone in its own."""
    x = torch.zeros(1, 1000)
    x[0, 990:998] = 2.0
    x[0, [17, 400, 401, 900]] = 1.0
    values, indices = rows.topk_rows(x.to(device), 10, False)
    assert indices.tolist() == [[17, 400, *range(990, 998)]]
    assert values.tolist() == [[1.0, 1.0] + [2.0] * 8]
    assert rows.topk_rows(x.to(device), 14, False)[1].tolist() == [
        [0, 1, 17, 400, 401, 900, *range(990, 998)]
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_nan_outranks_infinities_in_earlier_groups(tight, dtype, device):
    for sign in (1, -1):
        x = normal(2, 700).to(dtype)
        x[:, 5:400:3] = float("inf")
        x[0, 650] = torch.tensor(float("nan")).copysign(torch.tensor(sign))
        indices = rows.topk_rows(x.to(device), 2, False)[1]
        assert indices.tolist() == [[5, 650], [5, 8]]


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
def test_integer_keys(tight, dtype, device):
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    generator = torch.Generator().manual_seed(2)
    for width, k in ((1, 1), (40, 9), (600, 20)):
        spread = torch.randint(low, high, (3, width), generator=generator)
        few = torch.randint(-2, 3, (3, width), generator=generator)
        unused = spread.where(torch.rand(3, width, generator=generator) < 0.01, low)
        for keys in (spread, few, unused, torch.full_like(few, low), torch.full_like(few, high)):
            order = keys.argsort(dim=1, descending=True, stable=True)[:, :k]
            chosen = rows.topk_keys(keys.to(device, dtype), k)
            assert chosen.dtype == torch.int32
            assert torch.equal(chosen.cpu(), order.sort(dim=1).values.int())


def test_no_rows(device):
    values, indices = rows.topk_rows(torch.zeros(0, 5000, device=device), 7, False)
    assert values.shape == indices.shape == (0, 7)


def test_rows_that_are_not_contiguous(tight, device):
    x = normal(300, 40).to(device)
    assert_agrees(x.T[:5], 9)
    assert_agrees(x[::70, 3:30], 9)
    assert_agrees(x[:4, ::2], 4)
    assert_agrees(x[:1].expand(3, 40), 4)


def test_addresses_beyond_two_billion_entries(tight, device, tmp_path):
    """Rows 2**30 entries apart, in a file that is almost all hole."""
    storage = torch.from_file(
        str(tmp_path / "rows"), shared=True, size=2**31 + 100, dtype=torch.int16
    )
    x = storage.view(torch.bfloat16).as_strided((3, 100), (2**30, 1))
    x.copy_(normal(3, 100))
    for k in (5, 60):
        assert_agrees(x if device == "cpu" else x.to(device), k)


def test_results_go_where_they_are_wanted(device):
    x = normal(3, 200).to(device)
    out = torch.empty(5, 6, device=device), torch.empty(5, 6, device=device, dtype=torch.int32)
    part = out[0][1:4], out[1][1:4]
    rows.topk_rows(x, 6, False, out=part)
    expected = reference.topk_rows(x.cpu(), 6)
    for got, wanted in zip(out, expected, strict=True):
        assert torch.equal(got[1:4].cpu(), wanted)
    assert out[0][[0, 4]].isnan().all()


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("k", [1, 2, 3, 32, 48, 64, 100, 256, 300, 511, 512, 1000, 4096])
def test_no_program_holds_more_than_the_limit(k, itemsize):
    for width in (k, 1025, 4097, 8192, 8193, 10007, 50000, 65536, 131072, 10**6, 2**20):
        levels = 0
        while group := rows.group_size(width, k, itemsize):
            block = rows.pick_launch(group, k).constants
            assert block["GROUP"] * block["SLOTS"] <= rows.LIMIT
            tile = rows.group_max_launch(width, group, itemsize).constants
            assert tile["BLOCK"] * tile["GROUP"] * itemsize <= rows.TILE_BYTES
            assert -(-width // group) >= k
            width, levels = rows._n_maxima(width, group), levels + 1
        assert rows.select_launch(width, k).constants["BLOCK"] <= max(rows.LIMIT, 2 * k)
        assert k > 512 or levels <= 3


def test_more_slots_than_programs_hold_are_refused(device):
    x = torch.zeros(1, 8200, device=device)
    with pytest.raises(ValueError, match="k must be at most 4096 for rows of more than 8192"):
        rows.topk_rows(x, 4097, False)
    assert rows.serves(8192, 8192) and rows.serves(2**20, 4096)
