"""Every operation held to its definition in float64, before anything is timed.

Selection on the same input must name the same columns, with the same bits, ties and NaN included.
Products may be off by what one rounding of the result costs: ‖error‖ / ‖reference‖ at most BOUNDS.
Two runs give the same bits, and the layer has the bits of its two halves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.kernels import reference
from pellucid.kernels.bench import ops
from pellucid.kernels.bench.peers import relative
from pellucid.kernels.bench.report import Finding
from pellucid.kernels.bench.select import recall
from pellucid.kernels.bench.session import Bench
from pellucid.kernels.bench.shapes import Shape, draw_indices

BOUNDS = {torch.bfloat16: 4e-3, torch.float16: 1e-3, torch.float32: 1e-5}
MISSED = 0.15
"""Largest share of the exact selection that an approximate mode may miss on normal inputs."""

CASES = (
    Shape("odd", 37, 40, 700, 7),
    Shape("small", 256, 512, 8192, 32),
    Shape("large", 256, 2048, 65536, 64),
)
DTYPES = (torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Case:
    """One size, dtype and device of a comparison."""

    shape: Shape
    dtype: torch.dtype
    device: torch.device

    def __str__(self) -> str:
        return f"{self.shape.name}, {str(self.dtype).removeprefix('torch.')}"

    @property
    def bound(self) -> float:
        """What products may be off by."""
        return BOUNDS[self.dtype]

    def randn(self, *size: int) -> Tensor:
        """Normal numbers of the case's dtype."""
        return torch.randn(*size, device=self.device, dtype=self.dtype)

    def layer(self) -> list[Tensor]:
        """x (rows d), w_enc (width d), b_enc (width) and w_dec (width d)."""
        s = self.shape
        weights = (s.width, s.d_model)
        x, w_enc = self.randn(s.tokens, s.d_model), self.randn(*weights) / s.d_model**0.5
        return [x, w_enc, 0.1 * self.randn(s.width), self.randn(*weights)]

    def slots(self) -> tuple[Tensor, Tensor]:
        """Values and indices (rows k), some slots of them empty."""
        s = self.shape
        indices = draw_indices(s.tokens, s.width, s.k, "zipf", self.device)
        values = self.randn(s.tokens, s.k)
        empty = torch.rand(s.tokens, s.k, device=self.device) < 0.1
        return values.masked_fill(empty, 0), indices.masked_fill(empty, -1)


Check = Callable[[Case], Iterator[tuple[str, float, float]]]
"""What is compared, how far off it is, and how far it may be."""


def run(bench: Bench, names: tuple[str, ...]) -> None:
    """Compare the named operations; findings and faults go to the record."""
    checks = {name: CHECKS[name] for name in names}
    for name, check in checks.items():
        if reason := ops.missing(name):
            bench.record.absent(f"parity/{name}", reason)
            print(f"  {name}: {reason}")
            continue
        for shape in CASES:
            for dtype in DTYPES:
                _compare(bench, name, check, Case(shape, dtype, bench.device))
    bench.record.save()


def _compare(bench: Bench, name: str, check: Check, case: Case) -> None:
    key = f"parity/{name}/{case}"
    with bench.guarded(key):
        for what, error, bound in check(case):
            bench.record.found(Finding(name, str(case), what, error, bound))
    # A comparison that could not be made is no agreement.
    if reason := bench.record.figures.get(key, {}).get("reason"):
        bench.record.faults.setdefault(name, f"{reason} ({case})")


def differing(got: Tensor, wanted: Tensor) -> float:
    """The share of entries that are not the same, where NaN is the same as NaN."""
    same = (got == wanted) | (got.isnan() & wanted.isnan())
    return 1 - float(same.double().mean()) if same.numel() else 0.0


def repeats(run: Callable[[], tuple[Tensor, ...]]) -> Iterator[tuple[str, float, float]]:
    """Two runs give the same bits."""
    for position, (first, second) in enumerate(zip(run(), run())):
        yield f"a second run's result {position}", differing(first, second), 0.0


def gradients(op: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    """Output and gradients of every input."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    y = op(*inputs)
    return y.detach(), *torch.autograd.grad(y, inputs, grad)


def against(
    op: Callable[..., Tensor],
    definition: Callable[..., Tensor],
    inputs: dict[str, Tensor],
    grad: Tensor,
    bound: float,
) -> Iterator[tuple[str, float, float]]:
    """Output and gradients beside those of the definition in float64, and a second run."""
    tensors = list(inputs.values())
    wanted = gradients(definition, [tensor.double() for tensor in tensors], grad.double())
    got = gradients(op, tensors, grad)
    for name, a, b in zip(["output", *(f"d_{name}" for name in inputs)], got, wanted):
        yield name, relative(a, b), bound
    yield from repeats(lambda: gradients(op, tensors, grad))


def topk_rows(case: Case) -> Iterator[tuple[str, float, float]]:
    """Values and indices on normal rows, on rows full of ties, and with NaN, by size and magnitude."""
    s, op = case.shape, ops.get("topk_rows")
    x = case.randn(s.tokens, s.width)
    strange = x.clone()
    strange[:, :: max(1, s.width // 3)] = float("nan")
    strange[:, 1 :: max(2, s.width // 5)] = -0.0
    kinds = {"normal": x, "tied": (2 * x).round(), "relu": x.relu() * (x > 2.5), "nan": strange}
    for kind, rows in kinds.items():
        for signed in (False, True):
            values, indices = op(rows, s.k, signed=signed)
            wanted = reference.topk_rows(rows, s.k, signed=signed)
            sign = "by magnitude" if signed else "by size"
            yield f"indices, {kind} rows {sign}", differing(indices, wanted[1]), 0.0
            yield f"values, {kind} rows {sign}", differing(values, wanted[0]), 0.0
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


CHECKS: dict[str, Check] = {
    "topk_rows": topk_rows,
    "encode_topk": encode("encode_topk"),
    "encode_topk:groupmax": encode("encode_topk:groupmax"),
    "encode_topk:fp8": encode("encode_topk:fp8"),
    "sparse_decode": sparse_decode,
    "sddmm": sddmm,
    "topk_mlp": layer("topk_mlp"),
    "topk_mlp:groupmax": layer("topk_mlp:groupmax"),
    "topk_mlp:fp8": layer("topk_mlp:fp8"),
}
"""By operation."""
