"""The operators as torch sees them: opcheck, compilation, autocast, bad input, the choice of path."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pellucid.kernels import (
    bwd_features,
    csc_build,
    encode_topk,
    keep_topk,
    path,
    paths,
    sddmm,
    sparse_decode,
    topk_mlp,
    topk_rows,
)


def small(requires_grad=True, rows=6, d=8, width=70):
    generator = torch.Generator().manual_seed(0)
    sizes = (rows, d), (width, d), (width,), (width, d)
    return [torch.randn(*s, generator=generator).requires_grad_(requires_grad) for s in sizes]


def arguments() -> dict[str, tuple]:
    """What to check each operator with."""
    x, w_enc, b_enc, w_dec = small()
    with torch.no_grad():
        values, indices = encode_topk(x, w_enc, b_enc, 5)
    loose = [t.detach() for t in (x, w_enc, b_enc, w_dec)]
    grad = torch.randn(6, 5), torch.randn(6, 8)
    return {
        "topk_rows": (x, 3, False, True),
        "topk_dropped": (loose[0], 3, True),
        "topk_rows_backward": (grad[0], indices, 70),
        "encode_topk": (x, w_enc, b_enc, 5, False, "groupmax", "auto"),
        "encode_topk_backward": (grad[0], indices, *loose[:2], "auto"),
        "sparse_decode": (values.clone().requires_grad_(), indices, w_dec, "auto"),
        "sparse_decode_backward": (grad[1], values, indices, loose[3], "auto"),
        "topk_mlp": (x, w_enc, b_enc, w_dec, 5, False, "exact", "auto"),
        "sddmm": (x, w_enc, indices),
        "topk_mlp_backward": (grad[1], values, indices, *loose[:2], loose[3], "auto"),
    }


@pytest.mark.clean_memory
@pytest.mark.parametrize("name", arguments())
def test_opcheck(name):
    torch.library.opcheck(getattr(torch.ops.pellucid, name).default, arguments()[name])


def wrapped(x, w_enc, b_enc, w_dec):
    y = topk_mlp(x.sin(), w_enc, b_enc, w_dec, 5)[0]
    other, where = encode_topk(x, w_enc, b_enc, 4, signed=True)
    rows = (
        keep_topk(x, 3).square().sum()
        + topk_rows(x, 2)[0].sum()
        + topk_rows(x, 7, relu=True)[0].sum()
    )
    return y.sum() + sparse_decode(other, where, w_dec).square().sum() + rows


def loss_and_gradients(f, params):
    loss = f(*params)
    return [loss, *torch.autograd.grad(loss, params)]


@pytest.mark.clean_memory
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor imports torch.jit
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_whole_and_for_any_number_of_rows(backend):
    torch._dynamo.reset()
    compiled = torch.compile(wrapped, fullgraph=True, dynamic=True, backend=backend)
    for rows in (6, 9):
        params = small(rows=rows)
        for a, b in zip(
            loss_and_gradients(compiled, params), loss_and_gradients(wrapped, params), strict=True
        ):
            torch.testing.assert_close(a, b)


def test_autocast_does_what_it_does_to_a_linear_layer():
    params = small()
    with torch.autocast("cpu", torch.bfloat16):
        y, values, _ = topk_mlp(*params, 5)
        halves = sparse_decode(*encode_topk(*params[:3], 5), params[3])
    expected = topk_mlp(*[p.bfloat16() for p in params], 5)[0]
    assert y.dtype == values.dtype == torch.bfloat16
    assert torch.equal(y, expected) and torch.equal(halves, expected)
    grads = torch.autograd.grad(y.float().sum(), params)
    assert all(g.dtype == torch.float32 and g.abs().sum() > 0 for g in grads)


@pytest.mark.parametrize("products", ["sparse", "dense"])
def test_a_backward_pass_within_autocast_gives_the_bits_of_one_after_it(products):
    """No product inside an operation is autocast: sparse ones of the CPU would raise."""

    def gradients(within):
        params = small()
        with torch.autocast("cpu", torch.bfloat16):
            y, _, indices = topk_mlp(*params, 5, products=products)
            halves = sparse_decode(*encode_topk(*params[:3], 5, products=products), params[3])
            loss = (y.float() + halves.float() + sddmm(*params[:2], indices).float().sum()).sum()
            if within:
                return [loss, *torch.autograd.grad(loss, params)]
        return [loss, *torch.autograd.grad(loss, params)]

    assert all(torch.equal(a, b) for a, b in zip(gradients(True), gradients(False), strict=True))


def test_autocast_leaves_pieces_of_a_backward_pass_in_their_precision():
    x, w_enc, b_enc, w_dec = small(requires_grad=False)
    values, indices = encode_topk(x, w_enc, b_enc, 5)
    csc = csc_build(indices, 70)
    expected = bwd_features(csc, values, dy=x, w_dec=w_dec, x=x)
    with torch.autocast("cpu", torch.bfloat16):
        got = bwd_features(csc, values, dy=x, w_dec=w_dec, x=x)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_tensors_without_memory_have_shapes():
    with torch.autocast("cpu", torch.bfloat16):
        y, values, indices = topk_mlp(*[p.to("meta") for p in small()], 5)
    assert (y.shape, values.shape, indices.dtype) == ((6, 8), (6, 5), torch.int32)
    assert y.device.type == "meta" and y.dtype == torch.float32


X, W, B, V = (torch.zeros(s) for s in ((3, 4), (9, 4), (9,), (9, 4)))
SLOTS = torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.int32)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: topk_rows(None, 1), "topk_rows: x must be a tensor, got NoneType"),
        (lambda: topk_mlp(X.tolist(), W, B, V, 2), "topk_mlp: x must be a tensor, got list"),
        (lambda: encode_topk(X, W, None, 2), "encode_topk: b_enc must be a tensor, got NoneType"),
        (lambda: sddmm(X, W, [0]), "sddmm: indices must be a tensor, got list"),
        (lambda: topk_rows(X, 0), "topk_rows: k must be an int between 1 and the width 4, got 0"),
        (lambda: topk_rows(X, 5), "between 1 and the width 4, got 5"),
        (lambda: topk_rows(X, 2.0), "k must be an int between 1 and the width 4, got 2.0"),
        (lambda: topk_rows(X, True), "k must be an int between 1 and the width 4, got True"),
        (lambda: topk_rows(X.long(), 1), "x must be float16, bfloat16, float32 or float64"),
        (lambda: topk_rows(X[0], 1), r"x must have 2 dimension\(s\), got shape \(4,\)"),
        (lambda: topk_rows(X, 1, signed=True, relu=True), "got both True: set one of them"),
        (lambda: encode_topk(X, W[:, :3], B, 2), "x must have the 3 columns of w_enc, got 4"),
        (lambda: encode_topk(X, W, B[:5], 2), "b_enc must have one entry per unit of w_enc, 9"),
        (lambda: encode_topk(X, W.double(), B, 2), "w_enc must have the dtype of x, torch.float32"),
        (lambda: encode_topk(X, W.to("meta"), B, 2), "w_enc must be on the device of x, cpu"),
        (
            lambda: encode_topk(X, W, B, 2, mode="best"),
            "mode must be one of exact, groupmax, fp8, got 'best'",
        ),
        (
            lambda: topk_mlp(X, W, B, V, 6, mode="groupmax"),
            "topk_mlp: mode groupmax takes one unit a group, so k must be at most 5, .* got 6",
        ),
        (lambda: topk_mlp(X, W, B, V, 10), "topk_mlp: k must be an int between 1 and the width 9"),
        (lambda: topk_mlp(X, W, B, V[:8], 2), r"w_dec must have the 9 rows \(units\) of w_enc"),
        (
            lambda: sparse_decode(SLOTS[0], SLOTS[1].long(), V),
            "indices must be int32, got torch.int64",
        ),
        (lambda: sparse_decode(SLOTS[0], SLOTS[1][:, :1], V), "indices must have the shape of val"),
        (lambda: sparse_decode(SLOTS[0], SLOTS[1] + 9, V), "indices must lie between -1 and 8"),
        (lambda: sparse_decode(SLOTS[0], SLOTS[1] - 2, V), "got -2 to -2"),
        (lambda: sddmm(X, W, SLOTS[1] + 9), "sddmm: indices must lie between -1 and 8"),
        (lambda: sddmm(X, W[:, :3], SLOTS[1]), "x must have the 3 columns of weight, got 4"),
        (lambda: sddmm(X, W, SLOTS[1][:2]), r"must have the 3 rows of x, got shape \(2, 2\)"),
    ],
)
def test_bad_input(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_path_is_named_and_a_missing_kernel_said_once(monkeypatch):
    assert path("cpu") == "cpu: library calls"
    assert path(torch.device("cuda", 0)) == "cuda: Triton kernels"
    monkeypatch.setattr(paths, "_has_triton", lambda: False)
    assert "no kernel" in path("cuda")
    with pytest.raises(ValueError, match="device must be .*, got 'nonsense'"):
        path("nonsense")
    with pytest.warns(UserWarning, match="meta: dense products"):
        paths.serving(torch.empty(0, device="meta"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths.serving(torch.empty(0, device="meta"))


def run_python(code):
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        check=False,
        capture_output=True,
        text=True,
    )


def test_a_first_call_prints_no_notice_of_sparse_tensors():
    done = run_python(
        "import torch\nfrom pellucid.kernels import topk_mlp\n"
        "w = [torch.randn(*s, requires_grad=True) for s in ((3, 4), (20, 4), (20,), (20, 4))]\n"
        "topk_mlp(*w, 2)[0].sum().backward()\nprint('quiet')"
    )
    assert (done.stdout, done.stderr) == ("quiet\n", "")


def test_threads_do_not_disturb_each_other():
    def step(rows):
        params = small(rows=rows, width=900)
        return loss_and_gradients(wrapped, params)

    alone = [step(rows) for rows in (5, 300, 40, 128)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(step, (5, 300, 40, 128)))
    assert all(
        torch.equal(a, b)
        for x, y in zip(alone, together, strict=True)
        for a, b in zip(x, y, strict=True)
    )
