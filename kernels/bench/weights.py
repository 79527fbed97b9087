"""The largest entries of a weight matrix kept in place, as after an optimizer's step."""

import torch
from torch import Tensor

from pellucid.kernels.bench import ops
from pellucid.kernels.bench.session import Bench
from pellucid.kernels.bench.timing import Variant

ROWS, COLUMNS, DENSITY = 8192, 2048, 0.001
KEY = "weights/matrix"
PASSES = 4
"""Reads and writes of the matrix that the floor counts: two to find the threshold, two to apply it."""


def keep(rows: int, columns: int) -> int:
    """Entries that stay."""
    return max(1, round(DENSITY * rows * columns))


def by_scatter(weights: Tensor, kept: int) -> Tensor:
    """The usual way: `torch.topk` of all magnitudes, then a scatter into zeros; in place."""
    flat = weights.view(-1)
    chosen = flat.abs().topk(kept, sorted=False).indices
    values = flat[chosen]
    return flat.zero_().scatter_(0, chosen, values)


def measure(bench: Bench) -> None:
    """`weights/matrix`: `weight_topk_` in float32 beside the usual way."""
    kept = keep(ROWS, COLUMNS)
    print(f"{ROWS} x {COLUMNS} in float32, {kept} entries kept")
    with bench.guarded(KEY):
        source = torch.randn(ROWS, COLUMNS, device=bench.device)
        target = torch.empty_like(source)

        def variant(prune) -> Variant:
            return {"_restore": lambda _: target.copy_(source), "run": lambda w: prune(w, kept)}

        variants = {
            "weight_topk_": variant(lambda w, kept: ops.get("weight_topk_")(w, keep=kept)),
            "torch.topk, scatter": variant(by_scatter),
        }
        moved = dict.fromkeys(variants, PASSES * source.nbytes)
        bench.table(KEY, variants, needs={"weight_topk_": ("weight_topk_",)}, moved=moved)
