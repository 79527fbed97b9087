"""How nearly the other modes agree with `exact`: recall of its units, and activation mass kept.

`python -m pellucid.kernels.agreement` measures both where pre-activations are normal, beside what
`modes.predicted_recall` says of `groupmax`. Same words, same numbers, on the same machine.
"""

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.kernels.modes import MODES, candidate_count, group_size, predicted_recall
from pellucid.kernels.topk import encode_topk

SHAPES = ((256, 1024, 8), (256, 4096, 32), (256, 16384, 32), (256, 16384, 64))
"""d, width, k: what is measured if no words say otherwise."""


@dataclass(frozen=True)
class Agreement:
    """One mode at one shape: shares of what `exact` finds, and the predicted recall or None."""

    d: int
    width: int
    k: int
    mode: str
    recall: float
    mass: float
    predicted: float | None


def recall(indices: Tensor, exact_indices: Tensor) -> float:
    """Share of the units in `exact_indices` that their row of `indices` has as well.

    Both (rows slots) of int32, unique in a row, -1 for no unit. Where `exact` found no unit there
    was none to miss: 1.
    """
    if len(indices) != len(exact_indices):
        raise ValueError(
            f"recall: indices must have the {len(exact_indices)} rows of exact_indices, "
            f"got {len(indices)}"
        )
    stride = 1 + max(int(t.max()) if t.numel() else 0 for t in (indices, exact_indices))
    row = torch.arange(len(indices), device=indices.device)[:, None] * max(stride, 1)
    wanted, found = ((t.long() + row)[t >= 0] for t in (exact_indices, indices))
    return float(torch.isin(wanted, found).double().mean()) if len(wanted) else 1.0


def kept_mass(values: Tensor, exact_values: Tensor) -> float:
    """Sum of the magnitudes of values (rows slots) over that of the exact ones; 1 if that is 0."""
    exact = float(exact_values.double().abs().sum())
    return float(values.double().abs().sum()) / exact if exact else 1.0


@torch.no_grad()
def measure(
    d: int, width: int, k: int, *, rows: int = 256, seed: int = 0, device: str = "cpu"
) -> list[Agreement]:
    """Agreement of each mode on normal inputs and weights, drawn on the CPU; ValueError as usual."""
    generator = torch.Generator().manual_seed(seed)
    x, weight = (torch.randn(n, d, generator=generator).to(device) for n in (rows, width))
    bias = torch.zeros(width, device=device)
    exact_values, exact = encode_topk(x, weight, bias, k)
    found = []
    for mode in MODES[1:]:
        values, indices = encode_topk(x, weight, bias, k, mode=mode)
        predicted = predicted_recall(width, k, group_size(width, k)) if mode == "groupmax" else None
        shares = recall(indices, exact), kept_mass(values, exact_values)
        found.append(Agreement(d, width, k, mode, *shares, predicted))
    return found


def show(found: list[Agreement]) -> list[str]:
    """A line each, in words."""
    return [
        f"d {a.d}, width {a.width}, k {a.k}: {_rule(a)} finds {a.recall:.2%} of the units"
        + (f" (predicted {a.predicted:.2%})" if a.predicted is not None else "")
        + f" and {a.mass:.3%} of their mass"
        for a in found
    ]


def _rule(found: Agreement) -> str:
    if found.mode == "groupmax":
        return f"groupmax (groups of {group_size(found.width, found.k)})"
    return f"fp8 ({candidate_count(found.width, found.k)} candidates)"


def main(words: list[str]) -> int:
    """Prints the agreement at `d,width,k` of each word, or at SHAPES."""
    for shape in [tuple(map(int, word.split(","))) for word in words] or SHAPES:
        print("\n".join(show(measure(*shape))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
