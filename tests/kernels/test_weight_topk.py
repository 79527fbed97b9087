"""`weight_topk_`: which entries stay, in matrices of every kind, and on several processes."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.kernels import reference, weight_topk_
from pellucid.kernels.weight_checks import whole_number
from pellucid.kernels.weight_keys import highest, keys, nan_key
from pellucid.kernels.weight_radix import digits, pick

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
DRIVER = Path(__file__).parents[1] / "support" / "sharded_weights.py"


def bits(tensor):
    """The same memory as integers."""
    return tensor.view(BITS[tensor.itemsize])


def assert_projected(weight, keep, per_row=0, per_column=0):
    """The named positions keep their bits, also of NaN and -0; all others are +0."""
    mask = reference.weight_topk_mask(weight, keep, per_row=per_row, per_column=per_column)
    expected = bits(weight).where(mask, 0)
    once = weight.clone()
    weight_topk_(once, keep, per_row=per_row, per_column=per_column)
    assert torch.equal(bits(once), expected)
    twice = once.clone()
    weight_topk_(twice, keep, per_row=per_row, per_column=per_column)
    assert torch.equal(twice.nan_to_num(nan=7), once.nan_to_num(nan=7))


KINDS = {
    "plain": lambda x: x,
    "tied": lambda x: (2 * x).round() / 2,
    "mostly zero": lambda x: x.where(x > 1, -0.0),
    "all equal": lambda x: torch.ones_like(x),
    "zero": torch.zeros_like,
    "signs": lambda x: x.sign(),
    "not finite": lambda x: x.where(x < 1, float("nan")).where(x > -1, float("-inf")),
    "tiny": lambda x: x * 1e-40,
    "two kinds of NaN": lambda x: (
        bits(x).masked_fill(x > 0.5, -1).view(x.dtype).where(x > -1, torch.nan)
    ),
}


@st.composite
def problems(draw):
    """A matrix, and how much of it stays."""
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(rows, columns, generator=generator)
    weight = KINDS[draw(st.sampled_from(sorted(KINDS)))](x).to(draw(st.sampled_from(DTYPES)))
    keep = draw(st.integers(1, rows * columns))
    guards = draw(st.integers(0, columns)), draw(st.integers(0, rows))
    return weight, keep, *draw(st.sampled_from([(0, 0), guards]))


@settings(max_examples=400)
@given(problems())
def test_every_small_matrix(problem):
    assert_projected(*problem)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_larger_matrices(kind, dtype):
    x = torch.randn(40, 301, generator=torch.Generator().manual_seed(0))
    weight = KINDS[kind](x).to(dtype)
    for keep, *guards in ((1,), (100, 4), (100, 0, 4), (3000, 2, 9), (12039,), (12040, 3)):
        assert_projected(weight, keep, *guards)


def test_the_definition_by_hand():
    weight = torch.tensor([[1.0, -5, 2], [0.5, 0.1, -0.2], [5, 3, -0.0]])
    mask = lambda keep, **guards: reference.weight_topk_mask(weight, keep, **guards).int().tolist()
    assert mask(3) == [[0, 1, 0], [0, 0, 0], [1, 1, 0]]
    assert mask(1) == [[0, 1, 0], [0, 0, 0], [0, 0, 0]], "of equals the first"
    assert mask(1, per_row=1) == [[0, 1, 0], [1, 0, 0], [1, 0, 0]], "guards are more than keep"
    assert mask(4, per_row=1) == [[0, 1, 0], [1, 0, 0], [1, 1, 0]], "and count towards it"
    assert mask(1, per_column=1) == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert mask(4, per_row=1, per_column=1) == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]


def test_a_density_is_rounded_down_to_whole_entries():
    assert [whole_number(d, 10, "") for d in (0.1, 0.3, 0.7, 0.99, 1.0)] == [1, 3, 7, 9, 10]
    assert whole_number(0.29, 100, "") == 29, "0.29 * 100 is 28.999999999999996"
    assert whole_number(1e-3, 10, "") == 1, "at least one"
    assert whole_number(1 / 64, 8192 * 2048, "") == 2**18


@pytest.mark.parametrize("keep", [3, 0.25])
def test_rows_and_columns_by_themselves(keep):
    weight = (2 * torch.randn(8, 12, generator=torch.Generator().manual_seed(1))).round()
    for scope, matrix, count in (("row", weight, 3), ("column", weight.T, 3 if keep == 3 else 2)):
        expected = torch.cat(
            [row.where(reference.weight_topk_mask(row[None], count)[0], 0)[None] for row in matrix]
        )
        cut = weight.clone()
        weight_topk_(cut, keep, scope=scope)
        assert torch.equal(cut if scope == "row" else cut.T, expected)


def test_a_list_is_projected_one_by_one():
    generator = torch.Generator().manual_seed(2)
    shapes = [(4, 6), (9, 2), (7,), (), (3, 2, 2)]
    many = [torch.randn(shape, generator=generator) for shape in shapes]
    many[1] = many[1].bfloat16()
    alone = [tensor.clone() for tensor in many]
    weight_topk_(many, [5, 0.5, 3, 1, 1.0], per_row=[2, 0, 0, 0, 0], per_column=(0, 1, 0, 0, 0))
    weight_topk_(alone[0], 5, per_row=2)
    weight_topk_(alone[1], 0.5, per_column=1)
    weight_topk_(alone[2], 3)
    for a, b in zip(many, alone, strict=True):
        assert torch.equal(a, b)
    assert [int((tensor != 0).sum()) for tensor in many] == [8, 9, 3, 1, 12]
    weight_topk_([], 0.5)


def test_parameters_and_memory_with_gaps():
    generator = torch.Generator().manual_seed(3)
    weight = torch.nn.Parameter(torch.randn(6, 8, generator=generator))
    expected = weight.detach().where(reference.weight_topk_mask(weight.detach(), 7), 0)
    version, place = weight._version, weight.data_ptr()
    weight_topk_(weight, 7)
    assert torch.equal(weight, expected) and weight.data_ptr() == place
    assert weight._version > version and weight.is_leaf and weight.grad_fn is None
    square = (2 * torch.randn(9, 8, generator=generator)).round()
    for view in (square.T, square[::2], square[:, 1:6]):
        outside = square.clone()
        expected = view.where(reference.weight_topk_mask(view, 7), 0)
        weight_topk_(view, 7)
        assert torch.equal(view, expected)
        square.copy_(outside)


def test_backward_through_what_was_cut_is_refused():
    """Autograd knows that the saved weight has changed."""
    weight = torch.nn.Parameter(torch.randn(3, 3))
    x = torch.randn(2, 3, requires_grad=True)
    loss = (x @ weight).sum()
    weight_topk_(weight, 2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_whole(backend):
    torch._dynamo.reset()

    def step(weight, bias):
        weight_topk_([weight, bias], [6, 2], per_row=[1, 0])
        return (weight @ bias).sum()

    compiled = torch.compile(step, fullgraph=True, backend=backend)
    for seed in (4, 5):
        generator = torch.Generator().manual_seed(seed)
        pair = [torch.randn(shape, generator=generator) for shape in ((4, 5), (5,))]
        same = [tensor.clone() for tensor in pair]
        torch.testing.assert_close(compiled(*pair), step(*same))
        assert all(torch.equal(a, b) for a, b in zip(pair, same, strict=True))


def test_the_operator_is_declared_right():
    weights = [torch.randn(4, 5), torch.randn(3, 3)]
    arguments = (weights, [3, 4], [1, 0], [0, 1])
    torch.library.opcheck(torch.ops.pellucid.weight_topk_.default, arguments)


@pytest.mark.parametrize("dtype", DTYPES)
def test_keys_order_as_magnitudes_do(dtype):
    info = torch.finfo(dtype)
    sizes = [0.0, info.smallest_normal / 2, info.smallest_normal, 0.5, 1.0, info.max, math.inf]
    x = torch.tensor(sizes, dtype=dtype)
    ordered = keys(x)
    assert torch.equal(keys(-x), ordered) and ordered[0] == 0
    assert bool((ordered.diff() > 0).all())
    assert int(keys(torch.tensor([-math.nan], dtype=dtype))) == nan_key(dtype) == ordered[-1] + 1
    assert nan_key(dtype) < highest(dtype) == torch.iinfo(BITS[dtype.itemsize]).max


def test_digits_cover_every_bit_once():
    assert digits(torch.float32, 8) == [(24, 31), (16, 24), (8, 16), (0, 8)]
    assert digits(torch.bfloat16, 16) == [(0, 15)]
    counts = torch.tensor([[2, 0, 3, 1]])
    found = [[int(part) for part in pick(counts, torch.tensor([room]))] for room in range(7)]
    assert found == [[3, 0], [3, 1], [2, 1], [2, 2], [2, 3], [0, 1], [0, 2]]


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_spread_over_processes_the_bits_are_the_same(world, tmp_path):
    """Matrices sharded by rows, unevenly, with guards and ties: FSDP2's parameters."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(DRIVER), str(tmp_path), str(rank), str(world)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip
    for process in processes:
        out, _ = process.communicate(timeout=300)
        assert (process.returncode, out.split()[-1:]) == (0, ["equal"]), out


W, B = torch.ones(3, 4), torch.ones(4)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: weight_topk_(W, 0), "between 1 and the 12 of a tensor, .* got 0"),
        (lambda: weight_topk_(W, 13), "keep must be a number of entries .* got 13"),
        (lambda: weight_topk_(W, True), "got True"),
        (lambda: weight_topk_(W, 0.0), "a density .float. above 0 and at most 1, got 0.0"),
        (lambda: weight_topk_(W, 1.5), "got 1.5"),
        (lambda: weight_topk_(W, float("nan")), "got nan"),
        (lambda: weight_topk_(W, "0.5"), "got '0.5'"),
        (lambda: weight_topk_([W, B], [1]), "keep must be one number or 2, .* got 1"),
        (lambda: weight_topk_(W, 5, scope="row"), "between 1 and the 4 of a row"),
        (lambda: weight_topk_(W, 4, scope="column"), "between 1 and the 3 of a column"),
        (lambda: weight_topk_(W, 1, scope="rows"), "scope must be .* got 'rows'"),
        (lambda: weight_topk_(W, 1, scope="row", per_row=1), "need scope 'matrix', got 'row'"),
        (lambda: weight_topk_(B, 1, scope="row"), r"have 2 dimensions .* got shape \(4,\)"),
        (lambda: weight_topk_(W, 1, per_row=5), r"per_row must be at most the 4 .* row .* got 5"),
        (lambda: weight_topk_(W, 1, per_column=4), "per_column must be at most the 3 .* column"),
        (lambda: weight_topk_(W, 1, per_row=-1), "per_row must be an int of 0 or more, got -1"),
        (lambda: weight_topk_(W, 1, per_row=1.0), "got 1.0"),
        (lambda: weight_topk_(B, 1, per_row=1), r"per_row needs tensors of 2 dimensions"),
        (lambda: weight_topk_(W.int(), 1), r"weights\[0\] must be float16, .* got torch.int32"),
        (lambda: weight_topk_(None, 1), "weights must be a tensor or a sequence of them, got None"),
        (lambda: weight_topk_([W, 3], 1), r"weights\[1\] must be a tensor, got int"),
        (lambda: weight_topk_([W, B.to("meta")], 1), r"weights\[1\] must be on the device of"),
        (lambda: weight_topk_(torch.ones(0, 4), 1), r"have entries, got shape \(0, 4\)"),
        (lambda: weight_topk_([W, W], 1), "different tensors, got one of them twice"),
        (lambda: weight_topk_(B.expand(3, 4), 1), "an expanded tensor of strides"),
        (lambda: weight_topk_(B.clone().requires_grad_() * 2, 1), "pass tensor.detach()"),
    ],
)
def test_bad_input_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
    assert torch.equal(W, torch.ones(3, 4)), "nothing is written"
