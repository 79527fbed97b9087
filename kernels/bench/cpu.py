"""The CPU's table: the top-k layer beside the dense layers.

Parity with the dense-masked layer is checked before anything is timed.
"""

import json
import platform
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.kernels import path, topk_mlp, topk_rows
from pellucid.kernels.bench.options import Options
from pellucid.kernels.bench.timing import Spread, interleaved

ROWS, D_MODEL, K = 4096, 128, 32
WIDTHS = (1024, 4096, 8192)
TOLERANCE = 1e-4  # of the largest entry, in float32
GOALS = {1024: 1.6, 4096: 3.5, 8192: 4.5}  # dense / top-k, forward and backward

Layer = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def dense(x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor) -> Tensor:
    """The dense ReLU layer of the same width."""
    return F.relu(torch.addmm(b_enc, x, w_enc.T)) @ w_dec


def masked(x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor) -> Tensor:
    """The usual top-k layer: `torch.topk`, scatter, dense products."""
    pre = torch.addmm(b_enc, x, w_enc.T)
    values, indices = pre.topk(K, dim=-1, sorted=False)
    return torch.zeros_like(pre).scatter(-1, indices, values.relu()) @ w_dec


def ours(x: Tensor, w_enc: Tensor, b_enc: Tensor, w_dec: Tensor) -> Tensor:
    """`pellucid.kernels.topk_mlp`."""
    return topk_mlp(x, w_enc, b_enc, w_dec, K)[0]


def run(options: Options) -> int:
    """Print the table, and write it where `json` says; 1 if the layers disagree, else 0."""
    print(f"{path('cpu')}; torch {torch.__version__}, {torch.get_num_threads()} threads, float32")
    print(f"{ROWS} tokens, d {D_MODEL}, k {K}; medians of {options.rounds} rounds (p20 to p80)")
    torch.manual_seed(options.seed)
    table = [_measure(width, options.rounds) for width in WIDTHS]
    if options.json:
        about = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        about |= {"machine": platform.machine(), "rows": ROWS, "d_model": D_MODEL, "k": K}
        about |= {"rounds": options.rounds, "seed": options.seed}
        text = json.dumps({"format": 1, **about, "widths": table}, indent=2)
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    return 0 if all(row["parity"] <= TOLERANCE for row in table) else 1


def _measure(width: int, rounds: int) -> dict:
    params = [
        torch.randn(ROWS, D_MODEL),
        torch.randn(width, D_MODEL) / D_MODEL**0.5,
        torch.zeros(width),
        torch.randn(width, D_MODEL) / width**0.5,
    ]
    for parameter in params:
        parameter.requires_grad_()
    grad = torch.randn(ROWS, D_MODEL)
    error = max(
        _relative(a, b) for a, b in zip(_run(masked, params, grad), _run(ours, params, grad))
    )
    layers = {"top-k": ours, "dense": dense, "dense-masked": masked}
    steps = {name: lambda f=f: _run(f, params, grad) for name, f in layers.items()}
    with torch.no_grad():
        pre = torch.addmm(params[2], params[0], params[1].T)
    select = {
        "topk_rows": lambda: topk_rows(pre, K),
        "torch.topk": lambda: torch.topk(pre, K, dim=-1, sorted=False),
    }
    row = {"width": width, "parity": error, "ms": _times(steps, rounds)}
    row["ms"] |= _times(select, rounds)
    _show(row)
    return row


def _run(layer: Layer, params: list[Tensor], grad: Tensor) -> list[Tensor]:
    y = layer(*params)
    return [y.detach(), *torch.autograd.grad(y, params, grad)]


def _relative(expected: Tensor, got: Tensor) -> float:
    return float((expected - got).abs().max() / expected.abs().max())


def _times(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, Spread]:
    variants = {name: {"run": lambda _, step=step: step()} for name, step in steps.items()}
    times = interleaved(variants, rounds, torch.device("cpu"))
    return {name: times[name]["run"] for name in steps}


def _show(row: dict) -> None:
    width, times = row["width"], row["ms"]
    verdict = "agrees" if row["parity"] <= TOLERANCE else "DISAGREES"
    print(
        f"\nwidth {width}: {verdict} with dense-masked to {row['parity']:.0e}, values and gradients"
    )
    for name, (median, low, high) in times.items():
        ours_name = "topk_rows" if name in ("topk_rows", "torch.topk") else "top-k"
        ratio = median / times[ours_name][0]
        least = {"dense": GOALS[width], "torch.topk": 1}.get(name)
        goal = f" (goal {least}x)" if least else ""
        note = "" if name == ours_name else f"  {ratio:.2f}x {ours_name}'s time{goal}"
        print(f"  {name:13s}{median:8.1f} ms ({low:.1f} to {high:.1f}){note}")
