"""What the original implementations gave: weights, inputs, outputs and gradients, as recorded."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "parity"


class Values(dict[str, Tensor]):
    """Arrays by the names that the original gives its parameters.

    `absent` stands for what the original does not have. Of gradients only some are recorded: for
    the others, and for what is absent, stands a tensor of NaN, which `same_gradients` skips.
    """

    def __init__(self, values: dict[str, Tensor], shapes: dict[str, torch.Size] | None = None):
        super().__init__(values)
        self.shapes = shapes

    def __missing__(self, name: str) -> Tensor:
        if self.shapes is None:
            raise KeyError(name)
        return self.absent(*self.shapes[name])

    def absent(self, *shape: int) -> Tensor:
        return torch.full(shape, 0.0 if self.shapes is None else torch.nan, dtype=torch.float64)


Naming = Callable[[Values], dict[str, Tensor]]
"""From the original's parameters to ours: a rearrangement, which suits gradients as well."""


@dataclass(frozen=True)
class Original:
    """One recording: where it comes from, and its arrays, floats as float64."""

    header: dict
    weights: Values
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    gradients: Values

    @property
    def output(self) -> Tensor:
        """The only output, where there is one."""
        (only,) = self.outputs.values()
        return only


def recorded(name: str) -> Original:
    """The recording of this name."""
    kinds: dict[str, dict[str, Tensor]] = {
        kind: {} for kind in ("weights", "inputs", "outputs", "gradients")
    }
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        header = json.loads(str(arrays["header"]))
        for kind, _, rest in (key.partition("/") for key in arrays.files if "/" in key):
            value = torch.from_numpy(arrays[f"{kind}/{rest}"])
            kinds[kind][rest] = value.double() if value.is_floating_point() else value
    weights = Values(kinds["weights"])
    gradients = Values(kinds["gradients"], {name: w.shape for name, w in weights.items()})
    return Original(header, weights, kinds["inputs"], kinds["outputs"], gradients)


@torch.no_grad()
def fill(module: nn.Module, values: dict[str, Tensor]) -> None:
    """Set every parameter of the module, and nothing else."""
    parameters = dict(module.named_parameters())
    assert set(values) == set(parameters), (
        f"named on one side only: {set(values) ^ set(parameters)}"
    )
    for name, value in values.items():
        assert parameters[name].shape == value.shape, name
        parameters[name].copy_(value)


def same(name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Compare all entries. By how much they differ is printed, for `pytest -rP`, and in the message."""
    assert ours.shape == theirs.shape, f"{name}: {tuple(ours.shape)} and {tuple(theirs.shape)}"
    gap = float((ours - theirs).detach().abs().max())
    print(f"{name}: {gap:.1e}")
    assert gap <= tolerance, f"{name}: the largest difference is {gap:.3g}, above {tolerance:.0e}"


def same_gradients(
    module: nn.Module, theirs: dict[str, Tensor], at_least: int, tolerance: float
) -> None:
    """Compare the gradients that were recorded, which must be those of `at_least` parameters."""
    compared = 0
    for name, parameter in module.named_parameters():
        known = ~theirs[name].isnan()
        if known.any():
            compared += 1
            same(f"gradient of {name}", parameter.grad[known], theirs[name][known], tolerance)
    assert compared >= at_least, f"gradients of {compared} parameters were compared"
