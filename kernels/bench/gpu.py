"""A run on a GPU: agreement first, then rates, then times, then the goals beside them.

Nothing here is bound to a GPU but its defaults: the tests run all of it on the CPU in small sizes.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pellucid.kernels import path
from pellucid.kernels.bench import (
    definitions,
    far,
    goals,
    layers,
    model,
    parity,
    rates,
    select,
    sparse,
    sweep,
    weights,
)
from pellucid.kernels.bench.options import Options
from pellucid.kernels.bench.report import Record, parity_lines, summary_lines
from pellucid.kernels.bench.session import Bench
from pellucid.kernels.bench.shapes import SHAPES

MODES = ("", ":groupmax", ":fp8")
ENCODERS = tuple(f"encode_topk{mode}" for mode in MODES)
LAYERS = tuple(f"topk_mlp{mode}" for mode in MODES)


@dataclass(frozen=True)
class Part:
    """What a part measures, and the operations that must agree with their definitions for it."""

    measure: Callable[[Bench], None]
    ops: tuple[str, ...]


PARTS = {
    "select": Part(select.measure, ("topk_rows", *ENCODERS)),
    "decode": Part(sparse.measure_decode, ("sparse_decode",)),
    "backward": Part(sparse.measure_backward, ("sddmm", "csc_build", "bwd_features", "bwd_input")),
    "layer": Part(layers.measure, LAYERS),
    "weights": Part(weights.measure, ("weight_topk_",)),
}
MODEL = Part(model.measure, ("topk_mlp",))
SWEEP = Part(sweep.measure, ("topk_mlp",))


def chosen(options: Options) -> dict[str, Part]:
    """The parts that the words ask for."""
    parts = dict(PARTS) if options.part == "all" else {}
    if options.part in PARTS:
        parts = {options.part: PARTS[options.part]}
    if options.model or options.part == "model":
        parts["model"] = MODEL
    if options.sweep:
        parts["sweep"] = SWEEP
    return parts


def run(options: Options, device: torch.device) -> int:
    """Everything the words ask for; 1 if an operation disagreed or broke, else 0."""
    torch.manual_seed(options.seed)
    record = Record(about(options, device), options.json)
    bench = Bench(device, options.rounds, tuple(SHAPES[name] for name in options.shapes), record)
    print(", ".join(f"{name} {value}" for name, value in record.about["machine"].items()))
    parts = chosen(options)
    needed = [op for part in parts.values() for op in part.ops] or list(definitions.CHECKS)
    print("\nagreement with the definitions in float64")
    parity.run(bench, {name: definitions.CHECKS[name] for name in needed})
    if options.part in ("all", "parity"):
        far.run(bench)
    print("\n".join(parity_lines(record)), flush=True)
    if parts:
        rates.measure(bench)
    for name, part in parts.items():
        with bench.guarded(name):
            part.measure(bench)
    goals.judge(record)
    record.save()
    print("\n".join(["", "in short", *summary_lines(record)]))
    print("\n".join(["", "goals", *goals.lines(record)]))
    return 1 if record.faults or record.broken else 0


def about(options: Options, device: torch.device) -> dict:
    """The machine, the versions and the words of a run."""
    cuda = device.type == "cuda"
    machine = {
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "torch": torch.__version__,
        "triton": triton_version(),
        "path": path(device),
    }
    return {"machine": machine, "options": vars(options)}


def triton_version() -> str:
    """Triton's version, `none` where there is none."""
    try:
        import triton
    except ImportError:
        return "none"
    return triton.__version__
