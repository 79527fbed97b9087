"""A run on a GPU: agreement first, then rates, then times, then the goals beside them.

Nothing here is bound to a GPU but its defaults: the tests run all of it on the CPU in small sizes.
"""

import platform
import time
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
from pellucid.kernels.bench.session import LATE, Bench
from pellucid.kernels.bench.shapes import SHAPES, Shape

MODES = ("", ":groupmax", ":fp8")
ENCODERS = tuple(f"encode_topk{mode}" for mode in MODES)
BACKWARD = ("sddmm", "csc_build", "bwd_features", "bwd_input")
LAYERS = tuple(f"topk_mlp{mode}" for mode in MODES)


@dataclass(frozen=True)
class Part:
    """What a part measures, and the operations that must agree with their definitions for it."""

    measure: Callable[..., None]
    ops: tuple[str, ...]
    when: str = "by shape"


PARTS = {
    "select": Part(select.measure, ("topk_rows", *ENCODERS)),
    "decode": Part(sparse.measure_decode, ("sparse_decode",)),
    "backward": Part(sparse.measure_backward, BACKWARD),
    "layer": Part(layers.measure, LAYERS),
    "weights": Part(weights.measure, ("weight_topk_",), "first"),
}
MODEL = Part(model.measure, ("topk_mlp",), "first")
SWEEP = Part(sweep.measure, ("topk_mlp",), "last")


def chosen(options: Options) -> dict[str, Part]:
    """The parts that the words ask for."""
    parts = dict(PARTS) if options.part == "all" else {}
    if options.part in PARTS:
        parts = {options.part: PARTS[options.part]}
    if options.model or options.part == "model":
        parts["model"] = MODEL
    if options.sweep or options.part == "sweep":
        parts["sweep"] = SWEEP
    return parts


def run(options: Options, device: torch.device) -> int:
    """Everything the words ask for; 1 if an operation disagreed or broke, else 0."""
    torch.manual_seed(options.seed)
    record = Record(about(options, device), options.json)
    shapes = tuple(SHAPES[name] for name in options.shapes)
    start = time.monotonic()
    bench = Bench(device, options.rounds, shapes, record, ends=start + options.limit)
    print(", ".join(f"{name} {value}" for name, value in record.about["machine"].items()))
    parts = chosen(options)
    needed = [op for part in parts.values() for op in part.ops]
    needed = list(definitions.CHECKS) if options.part == "parity" else needed
    print("\nagreement with the definitions in float64")
    parity.run(bench, {name: definitions.CHECKS[name] for name in needed})
    if options.part in ("all", "parity"):
        far.run(bench)
    print("\n".join(parity_lines(record)), flush=True)
    if parts:
        rates.measure(bench)
    measure(bench, parts)
    goals.judge(record)
    record.save()
    print(f"\n{time.monotonic() - start:.0f} seconds")
    print("\n".join(["", "in short", *summary_lines(record)]))
    print("\n".join(["", "goals", *goals.lines(record)]))
    return 1 if record.faults or record.broken else 0


def measure(bench: Bench, parts: dict[str, Part]) -> None:
    """Everything of one shape before the next, so that a run cut short has whole shapes."""
    _at(bench, parts, "first")
    for shape in bench.shapes:
        _at(bench, parts, "by shape", shape)
    _at(bench, parts, "last")


def _at(bench: Bench, parts: dict[str, Part], when: str, *shape: Shape) -> None:
    for name, part in parts.items():
        if part.when != when:
            continue
        key = "/".join([name, *(each.name for each in shape)])
        print(f"\n{', '.join([name, *map(str, shape)])}", flush=True)
        if time.monotonic() > bench.ends:
            bench.record.absent(key, LATE)
        else:
            with bench.guarded(key):
                part.measure(bench, *shape)


def about(options: Options, device: torch.device) -> dict:
    """The machine, the versions and the words of a run."""
    cuda = device.type == "cuda"
    machine = {
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "torch": torch.__version__,
        "triton": triton_version(),
        "cuda": torch.version.cuda or "none",
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
