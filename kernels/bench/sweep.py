"""Where sparse beats dense: whole layers over width / k, for the rule that chooses between them."""

from pellucid.kernels.bench.layers import compiled, dense, eager, staged
from pellucid.kernels.bench.session import Bench
from pellucid.kernels.bench.shapes import Shape, layer_inputs

TOKENS = 16384
D_MODELS = (512, 1024, 2048)
KS = (32, 64)
RATIOS = (32, 64, 128, 192, 256, 384, 512, 1024)


def measure(bench: Bench) -> None:
    """`sweep/d…/k…/width…`, and for each d and k a line of dense / ours over the ratios.

    `topk_mlp` runs as it is shipped: where it already chooses dense products, that is timed.
    """
    lines = []
    for d in D_MODELS:
        for k in KS:
            ratios = {r: _ratio(bench, Shape(f"d{d}/k{k}", TOKENS, d, r * k, k)) for r in RATIOS}
            lines.append(f"  d {d:5d} k {k:3d}: " + "  ".join(map(_cell, ratios.items())))
    print("\ndense / ours, forward and backward, by width / k")
    print("\n".join(lines), flush=True)


def _cell(ratio: tuple[int, float | None]) -> str:
    return f"{ratio[0]}: {ratio[1]:.2f}" if ratio[1] else f"{ratio[0]}: none"


def _ratio(bench: Bench, shape: Shape) -> float | None:
    key = f"sweep/{shape.name}/width {shape.width}"
    with bench.guarded(key):
        inputs = layer_inputs(shape, bench.device, bench.dtype)
        layers = compiled({"ours": eager(shape)["ours"], "dense": dense}, bench.device)
        variants = {name: staged(layer, inputs) for name, layer in layers.items()}
        bench.table(key, variants, needs={"ours": ("topk_mlp",)})
    return bench.record.ratio(key, "dense", "ours")
