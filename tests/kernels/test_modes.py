"""The nearly exact modes: against their definition, their predicted recall, and bit for bit."""

import pytest
import torch

from pellucid.kernels import chunks, cpu, dense, encode_topk, reference, sparse_decode, topk_mlp
from pellucid.kernels.agreement import kept_mass, main, measure, recall, show
from pellucid.kernels.modes import candidate_count, group_count, group_size, predicted_recall
from pellucid.kernels.near import quantise, top_of_groups
from pellucid.kernels.select import group_maxima

NEAR = ("groupmax", "fp8")
# rows, d, width, k: ragged last groups, one group, the most groups, every group size
SHAPES = [
    (1, 3, 2, 1),
    (7, 5, 37, 1),
    (9, 4, 37, 19),
    (33, 8, 300, 5),
    (20, 16, 1024, 9),
    (17, 12, 1031, 3),
    (11, 6, 1000, 2),
]


def inputs(rows, d, width, *, dtype=torch.float64, bias=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = (rows, d), (width, d), (width,), (width, d)
    made = [torch.randn(*s, generator=generator, dtype=torch.float64) for s in sizes]
    made[2] *= bias
    return [t.to(dtype) for t in made]


def assert_same(got, expected, tolerance=1e-12):
    values, indices = got
    assert torch.equal(indices, expected[1])
    assert indices.dtype == torch.int32
    torch.testing.assert_close(values, expected[0], rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("mode", NEAR)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("path", [cpu, dense])
@pytest.mark.parametrize("bias", [0.1, -4.0])
def test_the_paths_agree_with_the_definition(mode, signed, path, bias):
    for rows, d, width, k in SHAPES:
        x, w_enc, b_enc, w_dec = inputs(rows, d, width)
        b_enc = b_enc + min(bias, 0)  # most units silent, so that rows have empty slots
        expected = reference.topk_mlp(x, w_enc, b_enc, w_dec, k, signed=signed, mode=mode)
        y, *slots = path.topk_mlp(x, w_enc, b_enc, w_dec, k, signed, mode)
        assert_same(slots, expected[1:])
        torch.testing.assert_close(y, expected[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", NEAR)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("path", [cpu, dense])
def test_ties_go_to_the_lowest_unit(mode, signed, path):
    """Multiples of powers of two, exact in 8 bits too, however they are summed."""
    generator = torch.Generator().manual_seed(1)
    for rows, d, width, k in SHAPES:
        x, w_enc = (
            torch.randint(-1, 2, (n, d), generator=generator).double() for n in (rows, width)
        )
        x[:, 0], w_enc[:, 0] = 2.0, 1.0  # no row of zeros: all scales are powers of two over 7
        b_enc = torch.zeros(width).double()
        expected = reference.encode_topk(x, w_enc, b_enc, k, signed=signed, mode=mode)
        assert_same(path.encode_topk(x, w_enc, b_enc, k, signed, mode), expected)


@pytest.mark.parametrize("mode", NEAR)
def test_nan_is_found(mode):
    x, w_enc, b_enc, _ = inputs(6, 4, 96)
    x[2, 1] = float("nan")  # every unit of one row
    b_enc[70] = float("nan")  # one unit of all rows
    for path in (cpu, dense):
        values, indices = path.encode_topk(x, w_enc, b_enc, 3, False, mode)
        assert_same((values, indices), reference.encode_topk(x, w_enc, b_enc, 3, mode=mode))
        assert all(70 in row for i, row in enumerate(indices.tolist()) if i != 2)
        assert values.isnan().any(dim=1).all()


@pytest.mark.parametrize("mode", NEAR)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("signed", [False, True])
def test_one_step_and_two_give_the_same_bits(mode, dtype, signed):
    for rows, d, width, k in SHAPES:
        params = [p.requires_grad_() for p in inputs(rows, d, width, dtype=dtype)]
        *encoder, w_dec = params
        one = topk_mlp(*params, k, signed=signed, mode=mode)
        values, indices = encode_topk(*encoder, k, signed=signed, mode=mode)
        two = sparse_decode(values, indices, w_dec), values, indices
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
        grads = [torch.autograd.grad(y.float().square().sum(), params) for y in (one[0], two[0])]
        assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("mode", NEAR)
@pytest.mark.parametrize("signed", [False, True])
def test_gradients_are_those_of_the_chosen_units(mode, signed):
    params = [p.requires_grad_() for p in inputs(5, 4, 70, bias=1.0, seed=3)]
    assert torch.autograd.gradcheck(lambda *a: topk_mlp(*a, 6, signed=signed, mode=mode)[0], params)
    assert torch.autograd.gradcheck(
        lambda *a: encode_topk(*a, 6, signed=signed, mode=mode)[0], params[:3]
    )


@pytest.mark.clean_memory
@pytest.mark.parametrize("mode", NEAR)
@pytest.mark.parametrize("operator", ["encode_topk", "topk_mlp"])
def test_opcheck(mode, operator):
    params = [p.requires_grad_() for p in inputs(6, 8, 70, dtype=torch.float32)]
    params = params if operator == "topk_mlp" else params[:3]
    operator = getattr(torch.ops.pellucid, operator).default
    torch.library.opcheck(operator, (*params, 5, False, mode, "auto"))


@pytest.mark.clean_memory
@pytest.mark.parametrize("mode", NEAR)
def test_compiles_whole_and_for_any_number_of_rows(mode):
    def loss(*params):
        return topk_mlp(params[0].sin(), *params[1:], 5, mode=mode)[0].square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (6, 9):
        params = [p.requires_grad_() for p in inputs(rows, 8, 70)]
        torch.testing.assert_close(compiled(*params), loss(*params))
        grads = [torch.autograd.grad(f(*params), params) for f in (compiled, loss)]
        assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("products", ["sparse", "dense"])
def test_no_tokens(products):
    for mode in NEAR:
        y, values, indices = topk_mlp(*inputs(0, 5, 64), 2, mode=mode, products=products)
        assert (y.shape, values.shape, indices.shape) == ((0, 5), (0, 2), (0, 2))


def test_several_chunks_of_rows(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(chunks, "MIN_CHUNK_ROWS", 16)
    x, w_enc, b_enc, _ = inputs(50, 6, 300)
    for mode in NEAR:
        expected = reference.encode_topk(x, w_enc, b_enc, 9, mode=mode)
        assert_same(encode_topk(x, w_enc, b_enc, 9, mode=mode), expected)


def test_group_maxima_survive_and_their_seconds_do_not():
    keys = torch.tensor([[5.0, 9.0, 8.0, 1.0, 1.0, 0.0, 7.0, 7.0, 3.0]])
    assert top_of_groups(keys, 3, 3).tolist() == [[1, 3, 6]]
    assert top_of_groups(keys, 3, 2).tolist() == [[1, 2, 6]]
    assert top_of_groups(keys, 2, 4).tolist() == [[1, 6]]  # the third group is one column: 3


@pytest.mark.parametrize("group", [2, 4, 8, 16, 32])
def test_group_maxima_by_either_call(group):
    generator = torch.Generator().manual_seed(0)
    for width in (group, 5 * group, 5 * group + 1, 6 * group - 1):
        keys = torch.randn(4, width, generator=generator)
        keys[1, width // 2] = float("nan")
        keys[2] = float("-inf")
        expected = torch.stack([part.amax(dim=1) for part in keys.split(group, dim=1)], dim=1)
        assert torch.equal(group_maxima(keys, group).nan_to_num(7), expected.nan_to_num(7))


def test_the_rule_of_groups():
    """As large as the goal for recall lets them be."""
    assert group_size(65536, 64) == 32
    assert [group_size(65536, k) for k in (32, 128, 256)] == [32, 16, 8]
    assert [group_size(width, 32) for width in (1024, 4096, 8192, 32768)] == [2, 4, 8, 32]
    assert group_count(1000, 2) == 32
    assert group_count(64, 32) == 32
    for width, k in ((1024, 32), (8192, 32), (65536, 64), (131072, 256)):
        group = group_size(width, k)
        assert predicted_recall(width, k, group) >= 0.98
        assert group == 32 or predicted_recall(width, k, 2 * group) < 0.98


def test_predicted_recall_is_that_of_a_small_case_counted_by_hand_and_of_the_large_limit():
    # Pairs of 5 units, groups {0,1} {2,3} {4}: 2 of 10 pairs share a group and lose one of two.
    assert predicted_recall(5, 2, 2) == pytest.approx(1 - 0.2 / 2)
    assert [predicted_recall(7, *ones) for ones in ((1, 4), (5, 1))] == pytest.approx([1, 1])
    groups, k = 2048, 64
    limit = groups / k * (1 - (1 - 1 / groups) ** k)
    assert predicted_recall(65536, k, 32) == pytest.approx(limit, abs=1e-3)


@pytest.mark.parametrize(("width", "k"), [(1024, 32), (4096, 16), (2000, 40)])
def test_recall_of_groupmax_is_the_predicted_one(width, k):
    """Each row loses a nearly Poisson number of units, so recall over rows is known to its error."""
    rows = 400
    found = next(a for a in measure(48, width, k, rows=rows) if a.mode == "groupmax")
    lost = k * (1 - found.predicted)
    assert abs(found.recall - found.predicted) < 4 * (lost / rows) ** 0.5 / k
    assert 0.98 < found.recall < found.mass < 1


def test_recall_of_fp8():
    found = next(a for a in measure(256, 4096, 32, rows=128) if a.mode == "fp8")
    assert found.recall >= 0.99
    assert found.mass >= 0.999
    assert candidate_count(4096, 32) == 48
    assert candidate_count(33, 32) == 33


def test_spare_candidates_are_what_makes_fp8_nearly_exact(monkeypatch):
    monkeypatch.setattr(cpu, "candidate_count", lambda width, k: k)
    bare = next(a for a in measure(256, 4096, 32, rows=128) if a.mode == "fp8")
    assert 0.8 < bare.recall < 0.98


def test_fp8_with_every_unit_as_candidate_is_exact():
    params = inputs(30, 6, 25, bias=1.0)
    for signed in (False, True):
        near = encode_topk(*params[:3], 22, signed=signed, mode="fp8")
        assert_same(near, encode_topk(*params[:3], 22, signed=signed))


def test_quantised_rows_keep_their_largest_entry_and_a_row_of_zeros():
    x = torch.tensor([[0.0, -3.0, 1.0], [0.0, 0.0, 0.0], [1e-30, 2e-30, 0.0], [1e-45, 0.0, 0.0]])
    values, scale = quantise(x)
    assert values.dtype == torch.float8_e4m3fn
    back = values.float() * scale
    assert back[0, 1] == -3.0
    assert back[1].tolist() == [0, 0, 0]
    torch.testing.assert_close(back[:3], x[:3], rtol=2**-4, atol=0)


def test_recall_and_mass_of_slots():
    exact = torch.tensor([[1, 4, 9], [2, 3, -1], [-1, -1, -1]], dtype=torch.int32)
    found = torch.tensor([[1, 5, 9, -1], [4, -1, -1, -1], [3, -1, -1, -1]], dtype=torch.int32)
    assert recall(found, exact) == 2 / 5
    assert recall(exact, exact) == recall(found, torch.full_like(exact, -1)) == 1.0
    assert kept_mass(torch.tensor([[1.0, -2.0]]), torch.tensor([[-4.0, 2.0]])) == 0.5
    with pytest.raises(ValueError, match="must have the 3 rows of exact_indices, got 2"):
        recall(found[:2], exact)


def test_the_table_is_printed_and_repeats(capsys):
    assert main(["16,256,4", "16,512,4"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("groupmax (groups of") == printed.count("fp8 (13 candidates)") == 2
    assert show(measure(16, 256, 4)) == printed.splitlines()[:2]
