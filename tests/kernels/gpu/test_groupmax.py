"""The group-max and the 8-bit encoder against the definition: on a GPU, or interpreted."""

import pytest
import torch
import triton
import triton.language as tl

from pellucid.kernels import near, reference
from pellucid.kernels.agreement import recall
from pellucid.kernels.gpu import groupmax
from pellucid.kernels.gpu.fp8 import check_device, encode_fp8
from pellucid.kernels.gpu.groupmax import encode_groupmax, group_maxima, whole_words
from pellucid.kernels.gpu.quantise import quantise
from pellucid.kernels.gpu.units import units_of
from pellucid.kernels.modes import group_size

# rows, d, width, k: ragged rows, d, width and last group; more than one tile of each
SHAPES = [(1, 4, 8, 1), (5, 7, 100, 3), (66, 33, 150, 2), (3, 65, 1100, 1)]


def inputs(rows, d, width, device, *, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = (rows, d), (width, d), (width,)
    return [torch.randn(*s, generator=generator).to(device, dtype) for s in sizes]


def whole_inputs(rows, d, width, device, *, dtype=torch.float32):
    """Small whole numbers: exact however they are summed, and full of ties."""
    generator = torch.Generator().manual_seed(1)
    sizes = (rows, d), (width, d), (width,)
    made = [torch.randint(-2, 3, s, generator=generator).to(device, dtype) for s in sizes]
    return made[0] / 4, made[1], made[2] / 4


def assert_same(got, expected, tolerance=1e-5):
    assert torch.equal(got[1], expected[1])
    assert got[1].dtype == torch.int32
    torch.testing.assert_close(got[0], expected[0], rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_groupmax_agrees_with_the_definition(shape, signed, device):
    rows, d, width, k = shape
    x, w_enc, b_enc = inputs(rows, d, width, device)
    expected = reference.encode_topk(x, w_enc, b_enc, k, signed=signed, mode="groupmax")
    assert_same(encode_groupmax(x, w_enc, b_enc, k, signed), expected)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_ties_go_to_the_lowest_unit(signed, dtype, device):
    """Exact in float16 as well, whose keys take the way of all 16-bit values."""
    for rows, d, width, k in SHAPES:
        x, w_enc, b_enc = whole_inputs(rows, d, width, device, dtype=dtype)
        wide = (t.double() for t in (x, w_enc, b_enc))
        expected = reference.encode_topk(*wide, k, signed=signed, mode="groupmax")
        got = encode_groupmax(x, w_enc, b_enc, k, signed)
        assert got[0].dtype == dtype
        assert_same((got[0].double(), got[1]), expected, 0)


@pytest.mark.parametrize("signed", [False, True])
def test_half_precision_is_accumulated_in_float32(signed, device):
    """bfloat16 on a GPU; the interpreter multiplies float16 right, and bfloat16 wrong."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float16
    x, w_enc, b_enc = inputs(40, 200, 700, device, dtype=dtype)
    wide = [t.float() for t in (x, w_enc, b_enc)]
    expected = reference.encode_topk(*wide, 6, signed=signed, mode="groupmax")
    values, indices = encode_groupmax(x, w_enc, b_enc, 6, signed)
    assert recall(indices, expected[1]) > 0.99
    assert recall(expected[1], indices) > 0.99
    same = indices == expected[1]
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(values[same].float(), expected[0][same], rtol=step, atol=step)


@pytest.mark.parametrize("signed", [False, True])
def test_nan_and_infinity_are_the_largest(signed, device):
    x, w_enc, b_enc = inputs(9, 8, 200, device)
    x[3, 2] = float("nan")  # all units of one row
    b_enc[150], b_enc[20] = float("nan"), float("inf")  # of all rows
    expected = reference.encode_topk(x, w_enc, b_enc, 3, signed=signed, mode="groupmax")
    got = encode_groupmax(x, w_enc, b_enc, 3, signed)
    assert_same(got, expected)
    assert all({20, 150} <= set(row) for i, row in enumerate(got[1].tolist()) if i != 3)


def test_rows_of_negative_pre_activations_are_empty(device):
    x, w_enc, b_enc = inputs(9, 8, 200, device)
    values, indices = encode_groupmax(x, w_enc, b_enc - 1000, 3, False)
    assert not values.any()
    assert (indices == -1).all()
    values, indices = encode_groupmax(x, 0 * w_enc, 0 * b_enc, 3, True)
    assert not values.any()
    assert (indices == -1).all()
    x[4], b_enc = 0, torch.full_like(b_enc, -1e-3)
    expected = reference.encode_topk(x, w_enc, b_enc, 3, mode="groupmax")
    assert_same(encode_groupmax(x, w_enc, b_enc, 3, False), expected)
    assert (expected[1][4] == -1).all()


def test_rows_in_parts_and_no_rows(device, monkeypatch):
    x, w_enc, b_enc = inputs(130, 8, 64, device)
    expected = reference.encode_topk(x, w_enc, b_enc, 2, mode="groupmax")
    monkeypatch.setattr(groupmax, "KEPT_BYTES", 1)  # 128 rows at a time
    assert_same(encode_groupmax(x, w_enc, b_enc, 2, False), expected)
    for encode in (encode_groupmax, encode_fp8):
        values, indices = encode(x[:0], w_enc, b_enc, 2, False)
        assert values.shape == indices.shape == (0, 2)


@pytest.mark.parametrize("described_from", [80, 1000])
@pytest.mark.parametrize("group", [2, 4, 8, 16, 32])
def test_group_maxima_of_every_size_by_either_way_of_loading(
    described_from, group, device, monkeypatch
):
    if device == "cpu":
        monkeypatch.setattr(groupmax, "DESCRIBED_FROM", described_from)
    monkeypatch.setattr(groupmax, "BAND", 3)  # bands of three row tiles and of one
    x, w_enc, b_enc = inputs(200, 40, 130, device)
    pre = x @ w_enc.T + b_enc
    for signed in (False, True):
        value, place = group_maxima(x, w_enc, b_enc, group, signed)
        column = reference.of_groups(pre.abs() if signed else pre.relu(), group)
        taken = pre.gather(1, column)
        torch.testing.assert_close(value, taken if signed else taken.relu())
        found = torch.arange(value.shape[1], device=device) * group + place
        assert torch.equal(found[value != 0], column[value != 0])


@triton.jit
def _largest_kernel(pre_ptr, value_ptr, place_ptr, SIGNED: tl.constexpr, GROUP: tl.constexpr):
    pre = tl.load(pre_ptr + tl.arange(0, 8)[:, None] * 64 + tl.arange(0, 64)[None, :])
    value, place = groupmax.largest(pre, tl.arange(0, 64)[None, :] < 61, SIGNED, GROUP)
    at = tl.arange(0, 8)[:, None] * (64 // GROUP) + tl.arange(0, 64 // GROUP)[None, :]
    tl.store(value_ptr + at, value)
    tl.store(place_ptr + at, place)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_reduction_orders_all_values(signed, dtype, device):
    """By bit patterns: signs, ties, both zeros, infinities and NaN, in a width of 61 of 64."""
    generator = torch.Generator().manual_seed(0)
    pre = torch.randn(8, 64, generator=generator).to(dtype)
    pre[1] = pre[1].round()
    pre[2, ::3], pre[3, 9], pre[3, 40] = -0.0, float("inf"), float("-inf")
    pre[4, 5::7], pre[5] = float("nan"), -pre[5].abs()
    bits = pre.view(torch.int16 if dtype.itemsize == 2 else torch.int32)
    bits[6, 17], bits[6, 20] = -1, bits[4, 5]  # a NaN with sign and payload, then a plain one
    pre[:, 61:] = 99.0  # beyond the width
    group = 8
    value, place = torch.empty(8, 8, dtype=dtype), torch.empty(8, 8, dtype=torch.int8)
    value, place, pre = (t.to(device) for t in (value, place, pre))
    _largest_kernel[(1,)](pre, value, place, signed, group)
    inside = pre[:, :61].double()
    column = reference.of_groups(inside.abs() if signed else inside.relu(), group)
    taken = inside.gather(1, column)
    expected = taken if signed else taken.relu()
    assert torch.equal(value.double().nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(place.long() + torch.arange(0, 64, group, device=device), column)


def test_whole_words_keep_the_product(device):
    for d in (1, 4, 7, 8):
        x = torch.arange(3 * d + 1, dtype=torch.float32, device=device)[1:].view(3, d)
        made = whole_words(x)
        assert made.data_ptr() % 16 == 0
        assert made.shape[1] % 4 == 0
        assert torch.equal(made[:, :d], x)
        assert not made[:, d:].any()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_quantise_gives_the_bits_of_the_library(dtype, device):
    scales = torch.tensor([1.0, 1e-3, 100.0, 0.0, 1e-7, 1.0, 1.0])[:, None]
    for d in (5, 64, 2100):
        x = (torch.randn(7, d, generator=torch.Generator().manual_seed(d)) * scales).to(dtype)
        x[5, 0], x[6, d // 2] = float("nan"), float("inf")
        x = x.to(device)
        values, scale = quantise(x)
        expected, expected_scale = near.quantise(x)
        assert torch.equal(scale.nan_to_num(7), expected_scale.nan_to_num(7))
        got, expected = (t.float() for t in (values, expected))
        assert torch.equal(got[:, :d].nan_to_num(7), expected.nan_to_num(7))
        assert values.shape[1] % 16 == 0
        assert not got[:5, d:].any()


def test_quantise_rounds_every_step_of_the_format_to_even(device):
    """All values of the format, the midpoints between them, and their neighbours on either side."""
    codes = torch.arange(0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    middle = (codes[1:] + codes[:-1]) / 2
    beside = [torch.nextafter(middle, torch.tensor(way)) for way in (0.0, 1e9)]
    x = torch.cat([codes, middle, *beside]).to(device)
    x = torch.stack([x, -x])  # the largest is 448: the scale is 1
    values, scale = quantise(x)
    assert (scale == 1).all()
    expected = x.to(torch.float8_e4m3fn)
    assert torch.equal(values[:, : x.shape[1]].view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", [(5, 7, 100, 3), (20, 48, 400, 9), (9, 300, 33, 32)])
def test_fp8_agrees_with_the_definition_but_for_its_candidates(shape, signed, device):
    """Scores are rounded to bfloat16 here: candidates may differ at the edge, winners may not."""
    rows, d, width, k = shape
    x, w_enc, b_enc = inputs(rows, d, width, device)
    expected = reference.encode_topk(x, w_enc, b_enc, k, signed=signed)
    assert_same(encode_fp8(x, w_enc, b_enc, k, signed), expected)


def test_fp8_takes_no_more_than_its_candidates(device, monkeypatch):
    """Without spares, what is found is what the 8-bit product ranks highest."""
    monkeypatch.setattr("pellucid.kernels.gpu.fp8.candidate_count", lambda width, k: k)
    x, w_enc, b_enc = inputs(12, 48, 400, device)
    _, indices = encode_fp8(x, w_enc, b_enc, 20, False)
    scores = near.rounded(x) @ near.rounded(w_enc).T + b_enc
    kept = torch.zeros_like(scores, dtype=torch.bool).scatter(1, indices.long(), True)
    worst = scores.masked_fill(~kept, float("inf")).amin(1)
    best = scores.masked_fill(kept, 0).amax(1)
    assert (worst >= best * (1 - 2**-7)).all()
    exact = reference.encode_topk(x, w_enc, b_enc, 20)[1]
    assert not torch.equal(indices, exact)


def test_fp8_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    with pytest.raises(ValueError, match="8.9 or newer, cuda:0 has 8.6; exact and groupmax"):
        check_device(torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    check_device(torch.device("cuda", 0))
    assert groupmax.architecture(torch.device("cuda", 0)) == 90


def test_units_of_columns(device):
    labels = torch.tensor([[3, 1, 0], [2, 2, 1]], dtype=torch.int8, device=device)
    chosen = torch.tensor([[0, 2], [1, -1]], dtype=torch.int32, device=device)
    assert units_of(labels, chosen, 4).tolist() == [[3, 8], [6, -1]]
    assert units_of(labels.int(), chosen, 0).tolist() == [[3, 0], [2, -1]]
    assert units_of(labels[:0], chosen[:0], 4).shape == (0, 2)


def test_the_rule_covers_every_group_that_the_modes_use():
    shipped = {entry.signature["GROUP"] for entry in groupmax.SHIPPED}
    used = {group_size(w, k) for w in (1024, 8192, 65536, 131072) for k in (1, 8, 32, 64, 256)}
    assert used <= shipped
