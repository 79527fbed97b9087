"""Decoder and backward pieces on drawn indices: evenly spread, and as skewed as trained layers'."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.kernels.bench import ops, peers
from pellucid.kernels.bench.session import Bench, single
from pellucid.kernels.bench.shapes import Shape, draw_indices, n_sets
from pellucid.kernels.bench.timing import Stage, Variant

LAWS = ("uniform", "zipf")


class Slots:
    """Weights (width d), and slots (rows k) with inputs and gradients (rows d) that take turns."""

    def __init__(self, bench: Bench, shape: Shape, law: str):
        options = {"device": bench.device, "dtype": bench.dtype}
        rows, d = shape.tokens, shape.d_model
        self.w_dec = torch.randn(shape.width, d, **options)
        self.w_enc = torch.randn(shape.width, d, **options) / d**0.5
        self.sets = [
            {
                "indices": draw_indices(rows, shape.width, shape.k, law, bench.device),
                "values": torch.rand(rows, shape.k, **options),
                "x": torch.randn(rows, d, **options),
                "grad": torch.randn(rows, d, **options),
            }
            for _ in range(n_sets(2 * rows * d * bench.dtype.itemsize))
        ]

    def turn(self, number: int) -> dict[str, Tensor]:
        """Everything of a round by name."""
        weights = {"w_dec": self.w_dec, "w_enc": self.w_enc}
        return weights | self.sets[number % len(self.sets)]


def measure_decode(bench: Bench, shape: Shape) -> None:
    """`decode/SHAPE/LAW` and, with gradients, `decoder/SHAPE/LAW`."""
    _each(bench, "decode", decode, shape)


def measure_backward(bench: Bench, shape: Shape) -> None:
    """`backward/SHAPE/LAW`: the pieces of the layer's backward pass."""
    _each(bench, "backward", backward, shape)


def _each(bench: Bench, part: str, table: Callable, shape: Shape) -> None:
    for law in LAWS:
        with bench.guarded(f"{part}/{shape.name}/{law}"):
            table(bench, shape, law)
        bench.free()


def decode(bench: Bench, shape: Shape, law: str) -> None:
    """`sparse_decode` beside `embedding_bag` and the peers, alone and with gradients."""
    slots, key = Slots(bench, shape, law), f"decode/{shape.name}/{law}"
    decoders = {
        "sparse_decode": lambda *args: ops.get("sparse_decode")(*args),
        "embedding_bag": bag,
        **peers.decoders(bench, key),
    }
    moved = dict.fromkeys(decoders, gathered(shape, bench.dtype))
    needs = {"sparse_decode": ("sparse_decode",)}
    variants = {name: _forward(decoder, slots) for name, decoder in decoders.items()}
    bench.table(key, variants, needs=needs, moved=moved)
    variants = {name: _with_gradients(decoder, slots) for name, decoder in decoders.items()}
    key = f"decoder/{shape.name}/{law}"
    for name in set(peers.DECODERS) - set(decoders):
        bench.record.absent(
            f"{key}/{name}", bench.record.reason(f"decode/{shape.name}/{law}/{name}")
        )
    bench.table(key, variants, needs=needs)


def bag(values: Tensor, indices: Tensor, w_dec: Tensor) -> Tensor:
    """The decoder as PyTorch has it; every index must name a unit."""
    return F.embedding_bag(indices, w_dec, per_sample_weights=values, mode="sum")


def gathered(shape: Shape, dtype: torch.dtype) -> int:
    """Bytes of one pass over the rows that the slots name, its output and the slots themselves."""
    rows = shape.tokens * (shape.k + 1) * shape.d_model * dtype.itemsize
    return rows + shape.tokens * shape.k * (4 + dtype.itemsize)


def _forward(decoder: Callable, slots: Slots) -> Variant:
    def run(number: int) -> Tensor:
        turn = slots.turn(number)
        return decoder(turn["values"], turn["indices"], turn["w_dec"])

    return single(run)


def _with_gradients(decoder: Callable, slots: Slots) -> Variant:
    def forward(number: int) -> tuple:
        turn = slots.turn(number)
        inputs = [turn[name].detach().requires_grad_() for name in ("values", "w_dec")]
        return decoder(inputs[0], turn["indices"], inputs[1]), inputs, turn["grad"]

    def backward(state: tuple) -> tuple[Tensor, ...]:
        return torch.autograd.grad(*state)

    return {"forward": forward, "backward": backward}


def backward(bench: Bench, shape: Shape, law: str) -> None:
    """Sorting by unit, the pass over units, the input's gradient, and products at named places."""
    slots, key = Slots(bench, shape, law), f"backward/{shape.name}/{law}"
    variants = {
        name: {"_ready": _ready(name, slots, shape.width), "run": CALLS[name]} for name in CALLS
    }
    one, pairs = gathered(shape, bench.dtype), shape.tokens * shape.k
    weights = 3 * shape.width * shape.d_model * bench.dtype.itemsize
    moved = {"bwd_features": 2 * one + weights, "bwd_input": one, "sddmm": one}
    # Keys and positions, read and written once each.
    moved |= dict.fromkeys(("csc_build", "torch.sort"), 16 * pairs)
    needs = {name: (name,) for name in CALLS if name != "torch.sort"}
    needs["bwd_features"] = ("csc_build", "bwd_features")
    bench.table(key, variants, needs=needs, moved=moved)


CALLS: dict[str, Callable[[dict], Any]] = {
    "bwd_features": lambda r: ops.get("bwd_features")(
        r["csc"], r["values"], dy=r["grad"], w_dec=r["w_dec"], x=r["x"]
    ),
    "bwd_input": lambda r: ops.get("bwd_input")(r["values"], r["indices"], r["w_enc"]),
    "sddmm": lambda r: ops.get("sddmm")(r["grad"], r["w_dec"], r["indices"]),
    "csc_build": lambda r: ops.get("csc_build")(r["indices"], len(r["w_dec"])),
    "torch.sort": lambda r: r["indices"].view(-1).sort(stable=True),
}
"""Each piece, given everything of a round by name."""


def _ready(name: str, slots: Slots, width: int) -> Stage:
    """The stage before a piece: the inputs of the round, and their sorted slots where it needs them."""
    sorted_slots: dict[int, Any] = {}

    def ready(number: int) -> dict[str, Any]:
        turn, at = slots.turn(number), number % len(slots.sets)
        if name != "bwd_features":
            return turn
        if at not in sorted_slots:
            sorted_slots[at] = ops.get("csc_build")(turn["indices"], width)
        return turn | {"csc": sorted_slots[at]}

    return ready
