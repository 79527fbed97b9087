"""Every operation held to its definition in float64, before anything is timed.

Selection on the same input must name the same columns, with the same bits, ties and NaN included.
Products may be off by what one rounding of the result costs: ‖error‖ / ‖reference‖ at most BOUNDS.
Two runs give the same bits, and the layer has the bits of its two halves.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.kernels.bench import ops
from pellucid.kernels.bench.peers import relative
from pellucid.kernels.bench.report import Finding
from pellucid.kernels.bench.session import Bench
from pellucid.kernels.bench.shapes import Shape, draw_indices

BOUNDS = {torch.bfloat16: 4e-3, torch.float16: 1e-3, torch.float32: 1e-5}

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


def run(bench: Bench, checks: Mapping[str, Check]) -> None:
    """Compare operations by name; findings and faults go to the record."""
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
