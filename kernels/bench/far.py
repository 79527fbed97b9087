"""Addresses beyond 2^31 elements: the last rows of tensors that are larger than an int32 can count."""

import torch
from torch import Tensor

from pellucid.kernels import reference
from pellucid.kernels.bench import ops
from pellucid.kernels.bench.parity import BOUNDS, differing
from pellucid.kernels.bench.peers import relative
from pellucid.kernels.bench.report import Finding
from pellucid.kernels.bench.session import Bench

ROWS, WIDTH, K = 16400, 131072, 64
UNITS, D_MODEL = 1 << 20, 2056
LAST = 16
"""Rows that are compared."""


Found = tuple[str, Tensor, Tensor, Tensor]
"""What is compared, what two runs gave, and what is wanted; the bits of the two must be the same."""


def run(bench: Bench) -> None:
    """Findings of `topk_rows`, `sparse_decode` and `bwd_features`, each run twice.

    Where there is no memory for one that is said, and is no fault.
    """
    for name, check in CHECKS.items():
        if ops.missing(name):
            continue
        with bench.guarded(f"parity/{name}/far"):
            elements, bound, found = check(bench)
            for what, first, second, wanted in found:
                case = f"{elements} elements"
                off = differing(first, wanted) if bound == 0 else relative(first, wanted)
                bench.record.found(Finding(name, case, what, off, bound))
                again = f"a second run's {what}"
                bench.record.found(Finding(name, case, again, differing(first, second), 0.0))
        bench.free()


def select(bench: Bench) -> tuple[int, float, list[Found]]:
    """The last rows of a matrix (ROWS WIDTH), selected with all others."""
    x = torch.randn(ROWS, WIDTH, device=bench.device, dtype=bench.dtype)
    once, twice = (ops.get("topk_rows")(x, K)[1][-LAST:] for _ in range(2))
    wanted = reference.topk_rows(x[-LAST:], K)[1]
    return x.numel(), 0.0, [("last rows' indices", once, twice, wanted)]


def decode(bench: Bench) -> tuple[int, float, list[Found]]:
    """As many rows as units, each naming the unit that many from the end, out of (UNITS D_MODEL)."""
    w_dec = _matrix(bench)
    indices, values = _turned(bench)
    once, twice = (_ends(ops.get("sparse_decode")(values, indices, w_dec)) for _ in range(2))
    return w_dec.numel(), 0.0, [("outermost rows", once, twice, _ends(w_dec).flip(0))]


def features(bench: Bench) -> tuple[int, float, list[Found]]:
    """The gradients of the outermost units, each of which one row named: the one at the other end."""
    dy, w_dec = _matrix(bench), _matrix(bench)
    indices, values = _turned(bench)
    csc = ops.get("csc_build")(indices, UNITS)

    def gradients() -> tuple[Tensor, Tensor]:
        made = ops.get("bwd_features")(csc, values, dy=dy, w_dec=w_dec)
        return _ends(made.d_w_dec), _ends(made.d_values)

    (weights, slots), (weights_again, slots_again) = gradients(), gradients()
    products = (_ends(dy).double() * _ends(w_dec).flip(0).double()).sum(1, keepdim=True)
    found = [
        ("outermost units' weights", weights, weights_again, _ends(dy).flip(0)),
        ("outermost rows' values", slots, slots_again, products),
    ]
    return dy.numel(), BOUNDS[bench.dtype], found


CHECKS = {"topk_rows": select, "sparse_decode": decode, "bwd_features": features}


def _matrix(bench: Bench) -> Tensor:
    return torch.randn(UNITS, D_MODEL, device=bench.device, dtype=bench.dtype)


def _turned(bench: Bench) -> tuple[Tensor, Tensor]:
    """Indices (UNITS 1) that name the units from the last to the first, and values of 1."""
    indices = torch.arange(UNITS - 1, -1, -1, device=bench.device, dtype=torch.int32)[:, None]
    return indices, torch.ones(UNITS, 1, device=bench.device, dtype=bench.dtype)


def _ends(rows: Tensor) -> Tensor:
    """The first rows and the last."""
    return torch.cat((rows[:LAST], rows[-LAST:]))
