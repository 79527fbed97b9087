"""Addresses beyond 2^31 elements: the last rows of tensors that are larger than an int32 can count."""

import torch

from pellucid.kernels import reference
from pellucid.kernels.bench import ops
from pellucid.kernels.bench.parity import differing
from pellucid.kernels.bench.peers import relative
from pellucid.kernels.bench.report import Finding
from pellucid.kernels.bench.session import Bench

ROWS, WIDTH, K = 16400, 131072, 64
UNITS, D_MODEL = 1 << 20, 2056
LAST = 16
"""Rows that are compared."""


def run(bench: Bench) -> None:
    """Findings of `topk_rows` and `sparse_decode`; no memory for it is said, and is no fault."""
    for name, check in (("topk_rows", select), ("sparse_decode", decode)):
        if ops.missing(name):
            continue
        with bench.guarded(f"parity/{name}/far"):
            finding = check(bench)
            bench.record.found(finding)
        bench.free()


def select(bench: Bench) -> Finding:
    """The last rows of a matrix (ROWS WIDTH), selected with all others."""
    x = torch.randn(ROWS, WIDTH, device=bench.device, dtype=bench.dtype)
    indices = ops.get("topk_rows")(x, K)[1][-LAST:]
    wanted = reference.topk_rows(x[-LAST:], K)[1]
    case = f"{x.numel()} elements"
    return Finding("topk_rows", case, "the last rows' indices", differing(indices, wanted), 0.0)


def decode(bench: Bench) -> Finding:
    """As many rows as units, each naming the unit that many from the end, out of (UNITS D_MODEL)."""
    w_dec = torch.randn(UNITS, D_MODEL, device=bench.device, dtype=bench.dtype)
    indices = torch.arange(UNITS - 1, -1, -1, device=bench.device, dtype=torch.int32)[:, None]
    values = torch.ones(UNITS, 1, device=bench.device, dtype=bench.dtype)
    y = ops.get("sparse_decode")(values, indices, w_dec)
    ends = torch.cat((y[:LAST], y[-LAST:]))
    wanted = torch.cat((w_dec[-LAST:].flip(0), w_dec[:LAST].flip(0)))
    case = f"{w_dec.numel()} elements"
    return Finding("sparse_decode", case, "the outermost rows", relative(ends, wanted), 0.0)
