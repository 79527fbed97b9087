"""Selection alone, and the encoder in its modes."""

import torch

from pellucid.kernels import reference
from pellucid.kernels.bench import ops, peers
from pellucid.kernels.bench.report import Finding
from pellucid.kernels.bench.session import Bench, single
from pellucid.kernels.bench.shapes import Shape, layer_inputs, n_sets
from pellucid.kernels.bench.timing import Variant

MODES = ("encode_topk", "encode_topk:groupmax", "encode_topk:fp8")
RECALL_ROWS = 1024
SAMPLED = 8
"""Rows at each end of a selection that are compared with the definition."""


def measure(bench: Bench, shape: Shape) -> None:
    """`select/SHAPE` and `encode/SHAPE`."""
    for part, table in (("select", rows), ("encode", modes)):
        with bench.guarded(f"{part}/{shape.name}"):
            table(bench, shape)
        bench.free()


def rows(bench: Bench, shape: Shape) -> None:
    """`topk_rows` beside `torch.topk` and what else is installed, on normal pre-activations."""
    key, k = f"select/{shape.name}", shape.k
    options = {"device": bench.device, "dtype": bench.dtype}
    size = shape.tokens * shape.width * bench.dtype.itemsize
    sets = [torch.randn(shape.tokens, shape.width, **options) for _ in range(n_sets(size))]

    if not bench.refused("topk_rows"):
        bench.record.found(
            Finding("topk_rows", str(shape), "sampled rows", sampled(sets[0], k), 0.0)
        )

    def variant(select) -> Variant:
        return single(lambda number: select(sets[number % len(sets)], k))

    variants = {
        "topk_rows": variant(lambda x, k: ops.get("topk_rows")(x, k)),
        "topk_rows, relu": variant(lambda x, k: ops.get("topk_rows")(x, k, relu=True)),
        "torch.topk": variant(lambda x, k: torch.topk(x, k, dim=-1, sorted=False)),
    }
    for name, select in peers.selectors(bench, key).items():
        variants[name] = variant(select)
    moved = dict.fromkeys(variants, size)
    if ops.missing("topk_rows") or not ops.takes("topk_rows", "relu"):
        del variants["topk_rows, relu"]
    needs = dict.fromkeys(("topk_rows", "topk_rows, relu"), ("topk_rows",))
    bench.table(key, variants, needs=needs, moved=moved)


def sampled(x: torch.Tensor, k: int) -> float:
    """The share of wrong indices in the first and the last rows of a selection from all rows."""
    chosen = ops.get("topk_rows")(x, k)[1]
    ends = list(range(SAMPLED)) + list(range(-SAMPLED, 0))
    wanted = reference.topk_rows(x[ends], k)[1]
    return float((chosen[ends] != wanted).double().mean())


def modes(bench: Bench, shape: Shape) -> None:
    """`encode_topk` in each mode beside its product alone, and what each finds of the exact one."""
    key = f"encode/{shape.name}"
    inputs = layer_inputs(shape, bench.device, bench.dtype)
    w_enc, b_enc, _ = (weight.detach() for weight in inputs.weights)
    xs = [x.detach() for x in inputs.x]

    def variant(op: str) -> Variant:
        return single(lambda number: ops.get(op)(xs[number % len(xs)], w_enc, b_enc, shape.k))

    variants = {op: variant(op) for op in MODES}
    variants["product alone"] = single(
        lambda number: torch.addmm(b_enc, xs[number % len(xs)], w_enc.T)
    )
    bench.table(key, variants, needs={op: (op,) for op in MODES})
    exact = None
    for op in MODES:
        if bench.record.ms(f"{key}/{op}/whole") is None:
            continue
        chosen = ops.get(op)(xs[0][:RECALL_ROWS], w_enc, b_enc, shape.k)[1]
        exact = chosen if op == MODES[0] else exact
        if exact is not None and op != MODES[0]:
            found = recall(exact, chosen, shape.width)
            bench.record.value(f"{key}/{op}/recall", "recall", found)
            print(f"  {op}: finds {found:.2%} of the exact selection")


def recall(wanted: torch.Tensor, chosen: torch.Tensor, width: int) -> float:
    """The share of the units in `wanted` (rows k) that are in `chosen` (rows k'); -1 is no unit."""
    marks = torch.zeros(len(wanted), width + 1, dtype=torch.bool, device=wanted.device)
    marks.scatter_(1, chosen.long().where(chosen >= 0, width), True)
    active = wanted >= 0
    hits = marks.gather(1, wanted.long().clamp(min=0)) & active
    return float(hits.sum() / active.sum().clamp(min=1))
