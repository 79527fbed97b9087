"""The price of monosemanticity: a tuned, controlled frontier of architectures.

`pellucid sweep h2`, then `python -m pellucid.experiments.h2 grids/h2`. Endpoints, declared here, seed by
seed and Holm-corrected together, over both and over all arms:

1. explained loss at an equal total of 65,536 bits, however many units there are, less that of the dense
   model of *equal test bits per byte*, interpolated in the ladder;
2. bits per byte, less those of the dense model of *equal active parameters*, in the same way.

Beyond the ladder nothing is said. The grid's page sets both beside dense GELU as it is. Everything else
is exploratory. The table says of each arm, too, how it differs from the best coder fitted to the dense
runs in explained loss, whether or not any arm is better, and why an arm has no rank (the gate: it must
beat the 5-gram, and copy better than its random twin).

Every arm has the active width of a dense model of 4 · d, or the published settings of its kind, and the
same budget of tuning. Widths of 16 · d count their whole encoder as active, so the ladder has a sixth
rung, of d 384, that reaches them. Coders of all layers of the dense arm's runs, tuned with as many
rates, are baselines in the group of those runs. The four arms that come out first are to be run on
`data=latent`, too; which these are no file can say before. Each k of top-k is tuned like an arm, by
itself, where the protocol would let arms of one kind share a rate. Of the protocol's secondary numbers
labels, seed consistency and wall time are on the grid's page.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pellucid.experiments import analysis
from pellucid.experiments.ladder import LadderError, size_at
from pellucid.experiments.rungs import usable
from pellucid.report.grid.arms import Arm, groups
from pellucid.report.grid.reading import CellFiles, read_grid
from pellucid.sweep import Grid, Tuning
from pellucid.sweep.statistics import Effect, effect, holm, paired

STEPS, TRIAL = 3662, 1221
"""60M and 20M tokens in steps of 16,384."""
LADDER = (96, 128, 192, 320, 384)
BITS, EXPLAINED = "bits_per_byte", "explained_loss:64bits_equal_total"
CODER = f"k=32 width=4096 steps={TRIAL} batch=64 lr=5e-4,1e-3,2e-3,4e-3"

grid = Grid(
    name="h2",
    base=(
        "tiny data=pypi data.vocab_size=2048 n_layers=4 d_model=256 context=256 "
        f"train.batch=64 train.steps={STEPS}"
    ),
    axes={
        "arm": [
            "mlp=dense mlp.activation=swiglu",
            "mlp=relu_l1 mlp.width=1024",
            "mlp=solu mlp.width=1024",
            *(f"mlp=topk mlp.width=4096 mlp.k={k}" for k in (16, 32, 64)),
            "mlp=batch_topk mlp.width=4096 mlp.k=32",
            "mlp=jumprelu mlp.width=4096 mlp.k=32",
            "mlp=bilinear",
            "mlp=moe mlp.router=moe_x",
            "mlp=monet mlp.split=vertical",
            "mlp=peer",
            "mlp=linear_experts",
            "mlp=codebook",
            "mlp=dense constraint=weight_topk constraint.density=0.0625",
        ]
    },
    baselines={
        "dense": "mlp=dense mlp.activation=gelu",
        **{f"dense d{d}": f"mlp=dense mlp.activation=gelu d_model={d}" for d in LADDER},
    },
    posthoc={
        "sae": f"kind=sae {CODER}",
        "transcoder": f"kind=transcoder {CODER}",
        "cross-layer transcoder, KL": f"kind=crosslayer_transcoder {CODER} kl_steps=200",
    },
    seeds=(0, 1, 2, 3, 4),
    endpoints=(EXPLAINED, BITS),
    suite="standard",
    consistency=True,
    tune=Tuning(seeds=(100,), words=f"train.steps={TRIAL}"),
)


@dataclass(frozen=True, kw_only=True)
class Price:
    """What an arm costs and gives beside dense models; differences are arm less dense."""

    arm: str
    explained: Effect
    """explained loss, at equal bits per byte"""
    bits: Effect
    """bits per byte, at equal active parameters"""
    coder: Effect
    """explained loss less that of the best coder, on the same seeds"""
    p: tuple[float | None, float | None] = (None, None)
    """of the two endpoints, corrected together, over both and over arms"""
    said: tuple[str, ...] = ()
    """what is left out, and why; and why the arm has no rank"""


def prices(folder: Path) -> list[Price]:
    """Every arm of a grid, coders among them, beside its ladder. RunError: no grid."""
    read = read_grid(folder)
    coders = set(read.grid["posthoc"])
    arms = [arm for group in groups(read) for arm in group.arms]
    rungs = [c for a in arms if a.is_baseline and a.label not in coders for c in a.cells]
    fitted = [arm for arm in arms if arm.label in coders]
    best = max(fitted, key=lambda arm: arm.mean(EXPLAINED).value or -math.inf, default=None)
    found = [_price(a, rungs, best) for a in arms if not a.is_baseline or a.label in coders]
    # Both endpoints are primary: a false claim at either is one of the same five percent.
    p = _corrected([*(one.explained.p for one in found), *(one.bits.p for one in found)])
    told = zip(found, p[: len(found)], p[len(found) :], strict=True)
    return [Price(**vars(one) | {"p": (first, second)}) for one, first, second in told]


def _price(arm: Arm, rungs: Sequence[CellFiles], best: Arm | None) -> Price:
    asked: dict[str, Callable[[CellFiles, Sequence[CellFiles]], float]] = {
        "explained": at_equal_bits,
        "bits": at_equal_size,
    }
    said, effects = list(arm.barred), {}
    for name, difference in asked.items():
        values = []
        for cell in arm.cells:
            try:
                values.append(difference(cell, [r for r in rungs if r.seed == cell.seed]))
            except LadderError as error:
                said.append(f"{name}, seed {cell.seed}: {error}")
        effects[name] = effect(values)
    other = best.by_seed(EXPLAINED) if best and best is not arm else {}
    effects["coder"] = paired(arm.by_seed(EXPLAINED), other)
    return Price(arm=arm.label, said=tuple(said), **effects)


def at_equal_bits(cell: CellFiles, rungs: Sequence[CellFiles]) -> float:
    """Explained loss less that of the dense model of as many bits per byte; LadderError: none."""
    ladder = usable(cell, rungs, BITS, EXPLAINED)
    size = size_at(cell.metrics[BITS], {p: rung.metrics[BITS] for p, rung in ladder})
    return cell.metrics[EXPLAINED] - _between(size, ladder, EXPLAINED)


def at_equal_size(cell: CellFiles, rungs: Sequence[CellFiles]) -> float:
    """Bits per byte less those of the dense model of as many active parameters; LadderError: none."""
    ladder, size = usable(cell, rungs, BITS), cell.costs["active"]
    if not ladder or not ladder[0][0] <= size <= ladder[-1][0]:
        raise LadderError(f"{size:,.0f} active parameters lie outside of the ladder's")
    return cell.metrics[BITS] - _between(size, ladder, BITS)


def _between(size: float, ladder: Sequence[tuple[float, CellFiles]], metric: str) -> float:
    at = [math.log(parameters) for parameters, _ in ladder]
    return float(np.interp(math.log(size), at, [rung.metrics[metric] for _, rung in ladder]))


def _corrected(p: Sequence[float | None]) -> list[float | None]:
    found = iter(holm([value for value in p if value is not None]))
    return [None if value is None else next(found) for value in p]


def table(found: Sequence[Price]) -> str:
    """The prices as Markdown, and what is to be said of them."""
    head = (
        *("arm", "explained loss at equal bits", "p (Holm)", "bits at equal size", "p (Holm)"),
        *("explained loss, less the best coder", "seeds"),
    )
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for one in found:
        p = ["–" if value is None else f"{value:.2g}" for value in one.p]
        shown = [_shown(each) for each in (one.explained, one.bits, one.coder)]
        row = [one.arm, shown[0], p[0], shown[1], p[1], shown[2], str(one.explained.n)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, "", *(f"{one.arm}: {said}" for one in found for said in one.said)])


def _shown(found: Effect) -> str:
    if found.value is None:
        return "–"
    ends = f" ({found.low:.3g} … {found.high:.3g})" if found.low is not None else ""
    return f"{found.value:+.3g}{ends}"


if __name__ == "__main__":
    sys.exit(analysis(lambda folder: table(prices(folder)), sys.argv[1:]))
