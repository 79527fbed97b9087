"""What each operation is held to: its definition, on inputs that are meant to hurt."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pellucid.kernels import reference
from pellucid.kernels.bench import ops
from pellucid.kernels.bench.parity import (
    Case,
    Check,
    against,
    differing,
    gradients,
    relative,
    repeats,
)
from pellucid.kernels.bench.select import recall

MISSED = 0.15
"""Largest share of the exact selection that an approximate mode may miss on normal inputs."""


def topk_rows(case: Case) -> Iterator[tuple[str, float, float]]:
    """Values and indices on normal rows, on rows full of ties, and with NaN, by size and magnitude."""
    s, op = case.shape, ops.get("topk_rows")
    x = case.randn(s.tokens, s.width)
    strange = x.clone()
    strange[:, :: max(1, s.width // 3)] = float("nan")
    strange[:, 1 :: max(2, s.width // 5)] = -0.0
    kinds = {"normal": x, "tied": (2 * x).round(), "relu": x.relu() * (x > 2.5), "nan": strange}
    ways: list[dict[str, bool]] = [{}, {"signed": True}]
    if ops.takes("topk_rows", "relu"):
        ways.append({"relu": True})
    for kind, rows in kinds.items():
        for way in ways:
            values, indices = op(rows, s.k, **way)
            wanted = reference.topk_rows(rows, s.k, **way)
            where = ", ".join([f"{kind} rows", *way])
            yield f"indices, {where}", differing(indices, wanted[1]), 0.0
            yield f"values, {where}", differing(values, wanted[0]), 0.0
    grad = case.randn(s.tokens, s.k)
    got = gradients(lambda x: op(x, s.k)[0], [x], grad)[1]
    wanted = gradients(lambda x: reference.topk_rows(x, s.k)[0], [x], grad)[1]
    yield "d_x", differing(got, wanted), 0.0
    yield from repeats(lambda: op(x, s.k))


def encode(name: str) -> Check:
    """The check of `encode_topk` in one of its modes."""

    def check(case: Case) -> Iterator[tuple[str, float, float]]:
        """Values at their own indices, what the selection reaches, and gradients."""
        s, op = case.shape, ops.get(name)
        x, w_enc, b_enc, _ = case.layer()
        values, indices = op(x, w_enc, b_enc, s.k)
        wide = [tensor.double() for tensor in (x, w_enc, b_enc)]
        yield "values", relative(values, named_values(*wide, indices)), case.bound
        best, exact = reference.encode_topk(*wide, s.k)
        if name == "encode_topk":
            yield "sorted values", relative(values.sort().values, best.sort().values), case.bound
        else:
            yield "the selection", 1 - recall(exact, indices, s.width), MISSED
        grad = case.randn(s.tokens, s.k)
        got = gradients(lambda *args: op(*args, s.k)[0], [x, w_enc, b_enc], grad)[1:]
        wanted = gradients(lambda *args: named_values(*args, indices), wide, grad.double())[1:]
        for which, a, b in zip(("d_x", "d_w_enc", "d_b_enc"), got, wanted):
            yield which, relative(a, b), case.bound
        yield from repeats(lambda: op(x, w_enc, b_enc, s.k))

    return check


def named_values(x: Tensor, w_enc: Tensor, b_enc: Tensor, indices: Tensor) -> Tensor:
    """Pre-activations (rows k) at the places that `indices` names, 0 where it names none."""
    taken = torch.addmm(b_enc, x, w_enc.T).gather(1, indices.long().clamp(min=0))
    return taken.masked_fill(indices < 0, 0)


def sparse_decode(case: Case) -> Iterator[tuple[str, float, float]]:
    """Output and gradients, with skewed indices and empty slots."""
    values, indices = case.slots()
    inputs = {"values": values, "w_dec": case.layer()[3]}
    grad = case.randn(case.shape.tokens, case.shape.d_model)
    yield from against(
        lambda v, w: ops.get("sparse_decode")(v, indices, w),
        lambda v, w: reference.sparse_decode(v, indices, w),
        inputs,
        grad,
        case.bound,
    )


def sddmm(case: Case) -> Iterator[tuple[str, float, float]]:
    """Output and gradients, with skewed indices and empty slots."""
    x, weight, _, _ = case.layer()
    values, indices = case.slots()
    yield from against(
        lambda x, w: ops.get("sddmm")(x, w, indices),
        lambda x, w: reference.sddmm(x, w, indices),
        {"x": x, "weight": weight},
        case.randn(*values.shape),
        case.bound,
    )


def layer(name: str) -> Check:
    """The check of `topk_mlp` in one of its modes."""
    encode_name = name.replace("topk_mlp", "encode_topk")

    def check(case: Case) -> Iterator[tuple[str, float, float]]:
        """Output and gradients given the units it chose, and the bits of the two halves."""
        s, op, halves = case.shape, ops.get(name), ops.get(encode_name)
        inputs = dict(zip(("x", "w_enc", "b_enc", "w_dec"), case.layer()))
        tensors = list(inputs.values())
        grad = case.randn(s.tokens, s.d_model)
        indices = op(*tensors, s.k)[2]

        def definition(x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor) -> Tensor:
            values = named_values(x, w_enc, b_enc, indices)
            return reference.sparse_decode(values, indices, w_dec)

        def fused(*args: Tensor) -> Tensor:
            return op(*args, s.k)[0]

        def split(*args: Tensor) -> Tensor:
            return ops.get("sparse_decode")(*halves(*args[:3], s.k), args[3])

        yield from against(fused, definition, inputs, grad, case.bound)
        pairs = zip(gradients(fused, tensors, grad), gradients(split, tensors, grad))
        for which, (one, two) in zip(("output", "d_x", "d_w_enc", "d_b_enc", "d_w_dec"), pairs):
            yield f"the halves' {which}", differing(one, two), 0.0

    return check


def csc_build(case: Case) -> Iterator[tuple[str, float, float]]:
    """Offsets, slots in use and counts beside a stable sort."""
    _, indices = case.slots()
    width, op = case.shape.width, ops.get("csc_build")
    made = op(indices, width)
    unit = indices.flatten().long()
    unit = unit.where(unit >= 0, width)
    counts = unit.bincount(minlength=width + 1)[:width]
    used = int(counts.sum())
    order = unit.argsort(stable=True)[:used]
    yield "slots", differing(made.slots[:used], order), 0.0
    yield "offsets", differing(made.offsets[1:], counts.cumsum(0)), 0.0
    yield "counts", differing(made.counts, counts), 0.0
    yield from repeats(lambda: (op(indices, width).slots[:used],))


def bwd_features(case: Case) -> Iterator[tuple[str, float, float]]:
    """All gradients of one pass, and the encoder's half with the bits that it has in that pass."""
    values, indices = case.slots()
    x, _, _, w_dec = case.layer()
    dy, width, op = case.randn(*x.shape), case.shape.width, ops.get("bwd_features")
    csc = ops.get("csc_build")(indices, width)
    made = op(csc, values, dy=dy, w_dec=w_dec, x=x)
    d_values = reference.sddmm(dy.double(), w_dec.double(), indices)
    by_unit = reference.to_dense(d_values, indices, width).T
    wanted = {
        "d_values": d_values,
        "d_w_dec": reference.to_dense(values.double(), indices, width).T @ dy.double(),
        "d_w_enc": by_unit @ x.double(),
        "d_b_enc": by_unit.sum(dim=1),
    }
    for name, tensor in wanted.items():
        yield name, relative(getattr(made, name), tensor), case.bound
    half = op(csc, grad_values=made.d_values, x=x)
    for name in ("d_w_enc", "d_b_enc"):
        yield (
            f"the encoder's half, {name}",
            differing(getattr(half, name), getattr(made, name)),
            0.0,
        )
    yield from repeats(lambda: tuple(op(csc, values, dy=dy, w_dec=w_dec, x=x)))


def bwd_input(case: Case) -> Iterator[tuple[str, float, float]]:
    """The input's gradient, with skewed indices and empty slots."""
    d_values, indices = case.slots()
    w_enc, op = case.layer()[1], ops.get("bwd_input")
    wanted = reference.sparse_decode(d_values.double(), indices, w_enc.double())
    yield "d_x", relative(op(d_values, indices, w_enc), wanted), case.bound
    yield from repeats(lambda: (op(d_values, indices, w_enc),))


def weight_topk_(case: Case) -> Iterator[tuple[str, float, float]]:
    """What stays of a matrix (width d), also among ties, and that a second time changes nothing."""
    s, op = case.shape, ops.get("weight_topk_")
    normal = case.randn(s.width, s.d_model)
    for kind, weights in {"normal": normal, "tied": (2 * normal).round()}.items():
        kept = max(1, weights.numel() // 100)
        order = weights.flatten().abs().argsort(descending=True, stable=True)
        wanted = weights.flatten().index_fill(0, order[kept:], 0).view(weights.shape)
        op(weights, keep=kept)
        yield f"{kind} entries", differing(weights, wanted), 0.0
        op(weights, keep=kept)
        yield f"{kind} entries, cut twice", differing(weights, wanted), 0.0


CHECKS: dict[str, Check] = {
    "topk_rows": topk_rows,
    "encode_topk": encode("encode_topk"),
    "encode_topk:groupmax": encode("encode_topk:groupmax"),
    "encode_topk:fp8": encode("encode_topk:fp8"),
    "sparse_decode": sparse_decode,
    "sddmm": sddmm,
    "csc_build": csc_build,
    "bwd_features": bwd_features,
    "bwd_input": bwd_input,
    "weight_topk_": weight_topk_,
    "topk_mlp": layer("topk_mlp"),
    "topk_mlp:groupmax": layer("topk_mlp:groupmax"),
    "topk_mlp:fp8": layer("topk_mlp:fp8"),
}
"""By operation."""
