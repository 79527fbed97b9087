"""Where gathering beats multiplying: whole layers over width / k, for the table of `dispatch.py`."""

from functools import partial

from torch import Tensor

from pellucid.kernels.bench import ops
from pellucid.kernels.bench.layers import Layer, compiled, dense, staged
from pellucid.kernels.bench.session import Bench
from pellucid.kernels.bench.shapes import Shape, layer_inputs

TOKENS = 16384
D_MODELS = (512, 1024, 2048)
KS = (32, 64)
RATIOS = (32, 64, 128, 192, 256, 384, 512, 1024)


def measure(bench: Bench) -> None:
    """`sweep/d…/k…/width…`, and for each d and k two lines over the ratios of width to k.

    The time of the layer with dense products over that with gathered rows says where the decision
    should turn; the dense layer's time over the latter, what the layer gains.
    """
    lines: dict[str, list[str]] = {"multiplied": [], "dense": []}
    for d in D_MODELS:
        for k in KS:
            keys = {r: _time(bench, Shape(f"d{d}/k{k}", TOKENS, d, r * k, k)) for r in RATIOS}
            for peer, made in lines.items():
                ratios = {r: bench.record.ratio(key, peer, "ours") for r, key in keys.items()}
                made.append(f"  d {d:5d} k {k:3d}: " + "  ".join(map(_cell, ratios.items())))
    for peer, made in lines.items():
        print(f"\n{peer} / gathered, forward and backward, by width / k")
        print("\n".join(made), flush=True)


def layers_of(k: int) -> dict[str, Layer]:
    """Our layer in both ways, and the dense one."""
    ways = {"ours": "sparse", "multiplied": "dense"}
    return {n: partial(topk_layer, k=k, products=p) for n, p in ways.items()} | {"dense": dense}


def topk_layer(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor, *, k: int, products: str
) -> Tensor:
    """`topk_mlp` multiplied out in one way."""
    return ops.get("topk_mlp")(x, w_enc, b_enc, w_dec, k, products=products)[0]


def _cell(ratio: tuple[int, float | None]) -> str:
    return f"{ratio[0]}: {ratio[1]:.2f}" if ratio[1] else f"{ratio[0]}: none"


def _time(bench: Bench, shape: Shape) -> str:
    key = f"sweep/{shape.name}/width {shape.width}"
    with bench.guarded(key):
        inputs = layer_inputs(shape, bench.device, bench.dtype)
        layers = layers_of(shape.k)
        layers |= compiled({"dense": layers["dense"]}, bench.device)
        variants = {name: staged(layer, inputs) for name, layer in layers.items()}
        needs = dict.fromkeys(("ours", "multiplied"), ("topk_mlp",))
        bench.table(key, variants, needs=needs)
    return key
