"""Whatever the benchmark's layers launch is among the configurations that ship and are compiled.

Launches are noted and not run, on tensors without memory: sizes are those of the real layers.
"""

import pytest
import torch

from pellucid.kernels.bench.shapes import SHAPES
from pellucid.kernels.gpu import (
    decode,
    features,
    gradients,
    groupmax,
    path,
    quantise,
    rows,
    sddmm,
    shipped,
    split,
    units,
)

TYPES = {
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.int32: "*i32",
    torch.int16: "*i16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
}


class Noted:
    """A kernel that keeps what it is launched with: types of tensors, and constants."""

    def __init__(self, kernel, launches: list):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        def launch(*values, **named):
            given = dict(zip(self.kernel.arg_names, values)) | named
            types = {name: TYPES.get(getattr(v, "dtype", None), v) for name, v in given.items()}
            self.launches.append((self.kernel, types, named.get("num_warps", 4)))

        return launch


def empty(*size: int) -> torch.Tensor:
    return torch.empty(*size, dtype=torch.bfloat16, device="meta")


@pytest.fixture
def launches(monkeypatch):
    found = []
    for module in (rows, decode, features, split, sddmm, groupmax, quantise, units):
        for name, kernel in vars(module).copy().items():
            if name.endswith("_kernel") and hasattr(kernel, "arg_names"):
                monkeypatch.setattr(module, name, Noted(kernel, found))
    # Nothing here has an address, nor a product in 8 bits.
    monkeypatch.setattr(groupmax, "whole_words", lambda x: x)
    monkeypatch.setattr(groupmax.TensorDescriptor, "from_tensor", lambda *_: None)
    monkeypatch.setattr(torch, "_scaled_mm", lambda a, b, **_: empty(len(a), b.shape[1]))
    return found


def ships(entry: shipped.Shipped, kernel, types: dict, warps: int) -> bool:
    """Whether an entry is of that kernel, with the same types of tensors and the same constants."""
    if entry.kernel is not kernel or entry.warps != warps:
        return False
    decided = {
        name: value
        for name, value in entry.signature.items()
        if not isinstance(value, str) or value.startswith("*")
    }
    return all(types[name] == value for name, value in decided.items())


@pytest.mark.parametrize("name", SHAPES)
def test_the_benchmark_s_layers_launch_what_ships(name, launches):
    shape = SHAPES[name]
    x, w_enc, b_enc = empty(shape.tokens, shape.d_model), empty(shape.width, 1), empty(shape.width)
    w_enc = w_enc.expand(-1, shape.d_model)
    for mode, signed in (("exact", False), ("exact", True), ("groupmax", False), ("fp8", False)):
        values, indices = path.encode_topk(x, w_enc, b_enc, shape.k, signed, mode)
    y = decode.sparse_decode(values, indices, w_enc)
    gradients.topk_mlp_backward(y, values, indices, x, w_enc, w_enc)
    gradients.sparse_decode_backward(y, values, indices, w_enc)
    gradients.encode_topk_backward(values, indices, x, w_enc)
    rows.topk_rows(empty(shape.tokens, shape.width), shape.k, False)
    sddmm.sddmm(x, w_enc, indices)
    assert len(launches) > 20
    listed = list(shipped.shipped(arch=90))
    missing = [launch for launch in launches if not any(ships(e, *launch) for e in listed)]
    assert missing == []
