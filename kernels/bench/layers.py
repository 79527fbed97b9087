"""Whole layers beside each other: dense, dense with `torch.topk` and a scatter, and ours."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.kernels.bench import ops
from pellucid.kernels.bench.parity import BOUNDS, relative
from pellucid.kernels.bench.report import Finding
from pellucid.kernels.bench.session import Bench
from pellucid.kernels.bench.shapes import LayerInputs, Shape, layer_inputs
from pellucid.kernels.bench.timing import Variant

Layer = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

OURS = {"ours": "topk_mlp", "ours, groupmax": "topk_mlp:groupmax", "ours, fp8": "topk_mlp:fp8"}
MIB = 1 << 20
SAMPLED = 16
"""Rows at each end of a batch that are compared with float64."""


def dense(x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor) -> Tensor:
    """The ReLU layer of the same width."""
    return F.relu(torch.addmm(b_enc, x, w_enc.T)) @ w_dec


def naive(x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor, *, k: int) -> Tensor:
    """The usual top-k layer: `torch.topk`, scatter, dense products."""
    pre = torch.addmm(b_enc, x, w_enc.T)
    values, indices = pre.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(pre).scatter(-1, indices, values.relu()) @ w_dec


def ours(x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor, *, k: int, op: str) -> Tensor:
    """`topk_mlp`, in the mode that `op` names."""
    return ops.get(op)(x, w_enc, b_enc, w_dec, k)[0]


def eager(shape: Shape) -> dict[str, Layer]:
    """Every layer, uncompiled."""
    layers: dict[str, Layer] = {name: partial(ours, k=shape.k, op=op) for name, op in OURS.items()}
    return {
        "ours": layers.pop("ours"),
        "dense": dense,
        "dense, topk, scatter": partial(naive, k=shape.k),
        **layers,
    }


def compiled(layers: dict[str, Layer], device: torch.device) -> dict[str, Layer]:
    """The layers that are not ours through `torch.compile`, on a GPU: what a careful user has."""
    if device.type != "cuda":
        return layers
    torch.compiler.reset()  # a shape is compiled for itself, and its code is not kept
    return {
        name: layer if name in OURS else torch.compile(layer, dynamic=False)
        for name, layer in layers.items()
    }


def measure(bench: Bench, shape: Shape) -> None:
    """`layer/SHAPE`: forward, backward and both, then memory."""
    key = f"layer/{shape.name}"
    with bench.guarded(key):
        inputs = layer_inputs(shape, bench.device, bench.dtype)
        for op in OURS.values():
            if not bench.refused(op):
                error, bound = sampled(op, inputs, shape.k), BOUNDS[bench.dtype]
                bench.record.found(Finding(op, str(shape), "sampled rows", error, bound))
        layers = compiled(eager(shape), bench.device)
        variants = {name: staged(layer, inputs) for name, layer in layers.items()}
        bench.table(key, variants, needs={name: (op,) for name, op in OURS.items()})
        memory(bench, key, layers, eager(shape), inputs)
    bench.free()


@torch.no_grad()
def sampled(op: str, inputs: LayerInputs, k: int) -> float:
    """How far the first and the last rows of all rows' values and output are off, in float64."""
    (x, _), (w_enc, b_enc, w_dec) = inputs.turn(0), inputs.weights
    made = ops.get(op)(x, w_enc, b_enc, w_dec, k)
    ends = list(range(SAMPLED)) + list(range(-SAMPLED, 0))
    y, values, indices = (tensor[ends] for tensor in made)
    unit = indices.long().clamp(min=0)
    near = torch.einsum("rkd,rd->rk", w_enc[unit].double(), x[ends].double()) + b_enc[unit].double()
    wanted = torch.einsum("rkd,rk->rd", w_dec[unit].double(), values.double())
    return max(relative(values, near.masked_fill(indices < 0, 0)), relative(y, wanted))


def staged(layer: Layer, inputs: LayerInputs) -> Variant:
    """Forward and backward of one layer as two stages."""

    def forward(number: int) -> tuple[Tensor, Tensor, Tensor]:
        x, grad = inputs.turn(number)
        return layer(x, *inputs.weights), x, grad

    def backward(state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        y, x, grad = state
        return torch.autograd.grad(y, (x, *inputs.weights), grad)

    return {"forward": forward, "backward": backward}


def memory(
    bench: Bench, key: str, layers: dict[str, Layer], plain: dict[str, Layer], inputs: LayerInputs
) -> None:
    """`…/saved` for the uncompiled layers, and on a GPU `…/peak` as they are timed, in MB."""
    for name, layer in layers.items():
        if bench.record.ms(f"{key}/{name}/whole") is None:
            continue
        with bench.guarded(f"{key}/{name}/saved"):
            saved = saved_bytes(plain[name], inputs) / MIB
            bench.record.value(f"{key}/{name}/saved", "mb", saved)
            line = f"  {name:22s} keeps {saved:10.2f} MB for the backward pass"
            if bench.device.type == "cuda":
                peak = peak_bytes(layer, inputs) / MIB
                bench.record.value(f"{key}/{name}/peak", "mb", peak)
                line += f", peak {peak:.0f} MB"
            print(line, flush=True)
    bench.record.save()


def saved_bytes(layer: Layer, inputs: LayerInputs) -> int:
    """Bytes that a forward pass keeps for its backward pass, beyond its inputs and weights."""
    x, _ = inputs.turn(0)
    known = {tensor.untyped_storage().data_ptr() for tensor in (x, *inputs.weights)}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x, *inputs.weights)
    return sum(sizes.values())


def peak_bytes(layer: Layer, inputs: LayerInputs) -> int:
    """The most memory of one forward and backward pass beyond what was there before (CUDA)."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    value = 0
    for stage in staged(layer, inputs).values():
        value = stage(value)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
