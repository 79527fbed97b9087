"""The pieces of a backward pass as others use them: on every path, compiled, and refused."""

import pytest
import torch
from support.slots import normal, random_slots, relative_error

from pellucid.kernels import (
    bwd_features,
    bwd_input,
    cpu,
    csc_build,
    dense,
    encode_topk,
    sparse_decode,
    topk_mlp,
)

PATHS = {"cpu": cpu.bwd_features, "dense": dense.bwd_features}


def operands(rows=9, d=12, width=30, k=4, dtype=torch.float64):
    """values, indices, dy, w_dec, x of a transcoder."""
    values, indices = random_slots(rows, k, width)
    floats = values, normal(rows, d), normal(width, d), normal(rows, d, seed=2)
    values, dy, w_dec, x = [t.to(dtype) for t in floats]
    return values, indices, dy, w_dec, x


def ways(values, dy, w_dec, x):
    """The keyword arguments of the fused pass, of the decoder half and of the encoder half."""
    return {
        "fused": {"values": values, "dy": dy, "w_dec": w_dec, "x": x},
        "decoder": {"values": values, "dy": dy, "w_dec": w_dec},
        "encoder": {"grad_values": values, "x": x},
    }


def by_definition(way, indices, width):
    """float64 gradients by dense matrices."""
    way = {name: t.double() for name, t in way.items()}
    column = indices.long().where(indices >= 0, width)

    def spread(slots):
        return slots.new_zeros(len(slots), width + 1).scatter(1, column, slots)[:, :width]

    made = dict.fromkeys(("d_w_dec", "d_w_enc", "d_b_enc", "d_values"))
    d_values = way.get("grad_values")
    if "dy" in way:
        d_values = (way["dy"] @ way["w_dec"].T).gather(1, indices.long().clamp(min=0))
        d_values = made["d_values"] = d_values.masked_fill(indices < 0, 0)
        made["d_w_dec"] = spread(way["values"]).T @ way["dy"]
    if "x" in way:
        made["d_w_enc"], made["d_b_enc"] = spread(d_values).T @ way["x"], spread(d_values).sum(0)
    return made


@pytest.mark.parametrize("way", ["fused", "decoder", "encoder"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rows", [0, 9])
def test_paths_agree_with_the_definition(path, way, rows):
    values, indices, *rest = operands(rows, dtype=torch.float32)
    given = ways(values, *rest)[way]
    csc = csc_build(indices, 30)
    names = ("values", "grad_values", "dy", "x", "w_dec")
    got = PATHS[path](csc.offsets, csc.slots, *[given.get(name) for name in names])
    for name, expected in by_definition(given, indices, 30).items():
        found = getattr(got, name)
        assert (found is None) == (expected is None), name
        if found is not None:
            assert found.dtype == torch.float32
            assert relative_error(found, expected) < 1e-6, name


def test_backward_of_a_crosscoder_from_its_pieces():
    """Two decoders, one encoder, and a gate between: what no whole layer here does."""
    rows, d, width, k, layers = 11, 6, 40, 5, 2
    x, w_enc, b_enc = normal(rows, d), normal(width, d, seed=3), normal(width)
    w_dec, gate, dy = normal(layers, width, d), normal(rows, k), normal(layers, rows, d)
    leaves = [t.requires_grad_() for t in (x, w_enc, b_enc, w_dec)]
    values, indices = encode_topk(x, w_enc, b_enc, k)
    gated = values * gate
    y = torch.stack([sparse_decode(gated, indices, w_dec[layer]) for layer in range(layers)])
    expected = torch.autograd.grad(y, leaves, dy)

    with torch.no_grad():
        csc = csc_build(indices, width)
        halves = [bwd_features(csc, gated, dy=dy[i], w_dec=w_dec[i]) for i in range(layers)]
        d_values = gate * sum(half.d_values for half in halves)
        encoder = bwd_features(csc, grad_values=d_values, x=x)
        got = bwd_input(d_values, indices, w_enc), encoder.d_w_enc, encoder.d_b_enc
        got += (torch.stack([half.d_w_dec for half in halves]),)
    for a, b in zip(got, expected, strict=True):
        assert relative_error(a, b) < 1e-12


def test_a_transcoder_in_one_pass_is_the_whole_layer():
    x, w_enc, b_enc, w_dec = [
        t.requires_grad_() for t in (normal(8, 6), normal(20, 6, seed=2), normal(20), normal(20, 6))
    ]
    y, values, indices = topk_mlp(x, w_enc, b_enc, w_dec, 3)
    dy = normal(8, 6, seed=5)
    expected = torch.autograd.grad(y, (w_enc, b_enc, w_dec), dy)
    with torch.no_grad():
        made = bwd_features(csc_build(indices, 20), values, dy=dy, w_dec=w_dec, x=x)
    got = made.d_w_enc, made.d_b_enc, made.d_w_dec
    for a, b in zip(got, expected, strict=True):
        assert relative_error(a, b) < 1e-12


def test_counts_say_how_often_a_unit_fired():
    _, indices = random_slots(50, 6, 20)
    expected = [int((indices == unit).sum()) for unit in range(20)]
    assert csc_build(indices, 20).counts.tolist() == expected
    assert expected[-1] == 0


@pytest.mark.clean_memory
@pytest.mark.parametrize("way", ["fused", "decoder", "encoder"])
def test_opcheck(way):
    values, indices, *rest = operands()
    given = ways(values, *rest)[way]
    torch.library.opcheck(torch.ops.pellucid.csc_build.default, (indices, 30))
    offsets, slots, _ = csc_build(indices, 30)
    names = ("values", "grad_values", "dy", "x", "w_dec")
    arguments = (offsets, slots, *[given.get(name) for name in names])
    torch.library.opcheck(torch.ops.pellucid.bwd_features.default, arguments)


@pytest.mark.clean_memory
def test_compiles_whole_and_for_any_number_of_rows():
    def step(values, indices, dy, w_dec, x):
        csc = csc_build(indices, len(w_dec))
        made = bwd_features(csc, values * 2, dy=dy.sin(), w_dec=w_dec, x=x)
        fired = (csc.counts > 0).sum()
        return bwd_input(made.d_values, indices, w_dec), made.d_w_enc, made.d_w_dec, fired

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (6, 9):
        given = operands(rows)
        for a, b in zip(compiled(*given), step(*given), strict=True):
            assert torch.equal(a, b)


def test_a_gradient_of_a_gradient_is_refused():
    values, indices, dy, w_dec, x = operands()
    csc = csc_build(indices, 30)
    made = bwd_features(csc, values, dy=dy, w_dec=w_dec.requires_grad_(), x=x)
    with pytest.raises(NotImplementedError, match="bwd_features gives gradients and has no grad"):
        made.d_values.sum().backward()


def test_the_gradient_of_the_input_is_differentiable():
    values, indices, _, w_dec, _ = operands(rows=3, d=4)

    def back(v, w):
        return bwd_input(v.masked_fill(indices < 0, 0), indices, w)

    assert torch.autograd.gradcheck(back, (values.requires_grad_(), w_dec.requires_grad_()))


V, SLOTS, DY, W, X = operands()
CSC = csc_build(SLOTS, 30)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: csc_build(SLOTS.long(), 30), "csc_build: indices must be int32, got torch.int64"),
        (lambda: csc_build(SLOTS[0], 30), r"indices must have 2 dimension\(s\), got shape \(4,\)"),
        (lambda: csc_build(SLOTS, 0), r"width must be an int between 1 and 2\*\*31 - 2, got 0"),
        (lambda: csc_build(SLOTS, True), "got True"),
        (lambda: csc_build(SLOTS, 20), "csc_build: indices must lie between -1 and 19"),
        (lambda: bwd_features(CSC[:2], V, dy=DY, w_dec=W), "csc must be what csc_build gives, got"),
        (
            lambda: csc_build(SLOTS[:1, :1].expand(2**16, 2**15), 30),
            "2147483648 slots are more than 2146435072: use fewer rows at once",
        ),
        (lambda: bwd_features(CSC, V, dy=DY), "w_dec belong together, got only values and dy"),
        (lambda: bwd_features(CSC, x=X), "needs values, dy and w_dec, or grad_values and x"),
        (lambda: bwd_features(CSC, grad_values=V), "needs values, dy and w_dec, or grad_values"),
        (
            lambda: bwd_features(CSC, V, dy=DY, w_dec=W, grad_values=V, x=X),
            "grad_values is what the decoder finds: give it or w_dec",
        ),
        (lambda: bwd_features(CSC, V.float(), dy=DY, w_dec=W), "dy must have the dtype of values"),
        (lambda: bwd_features(CSC, V, dy=DY[:3], w_dec=W), r"dy must have shape \(9, 12\), got"),
        (lambda: bwd_features(CSC, V, dy=DY, w_dec=W[:5]), r"w_dec must have shape \(30, 12\)"),
        (lambda: bwd_features(CSC, V, dy=DY, w_dec=W, x=X[:, 1:]), r"x must have shape \(9, 12\)"),
        (
            lambda: bwd_features(CSC, grad_values=V[:2], x=X[:2]),
            "csc holds 36 slots on cpu, the values 8 on cpu: they must come from the same indices",
        ),
        (lambda: bwd_input(V, SLOTS.long(), W), "bwd_input: indices must be int32"),
    ],
)
def test_bad_input(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
