"""Kernels of other projects, where they are installed: called by their public functions.

Each is held to float64 before it is timed. A file is loaded alone, because the packages around the
kernels import data sets, trackers and models.
"""

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from pellucid.kernels import reference
from pellucid.kernels.bench.session import Bench
from pellucid.kernels.bench.shapes import draw_indices

SELECTORS = ("FlashInfer top_k", "RTop-K")
DECODERS = ("sparsify", "OpenAI")
BOUND = 2e-2
"""Peers may round more often than we allow ourselves; what is further off computes something else."""
ROWS, D_MODEL, WIDTH, K = 64, 256, 4096, 32
"""Size of the comparison with float64."""

Selector = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Decoder = Callable[[Tensor, Tensor, Tensor], Tensor]


class NotInstalled(Exception):
    """No module of that name."""


@cache
def module(package: str, file: str = "") -> ModuleType:
    """A package that is installed, or one file of it without the rest; raises NotInstalled."""
    found = importlib.util.find_spec(package)
    if found is None:
        raise NotInstalled(f"{package} is not installed")
    if not file:
        return importlib.import_module(package)
    for folder in found.submodule_search_locations or ():
        path = Path(folder, file)
        if path.exists():
            spec = importlib.util.spec_from_file_location(f"_peer_{package}", path)
            loaded = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded)
            return loaded
    raise NotInstalled(f"{package} is installed without {file}")


def flashinfer() -> Selector:
    """`flashinfer.top_k(input, k)`: values and int64 indices, unsorted."""
    return module("flashinfer").top_k


def rtopk() -> Selector:
    """`rtopk.ops.rtopk(data, k)`: values and indices."""
    module("rtopk")
    return importlib.import_module("rtopk.ops").rtopk


def sparsify() -> Decoder:
    """`xformers_embedding_bag(indices, weight, per_sample_weights)` of EleutherAI's sparsify."""
    bag = module("sparsify", "xformers.py").xformers_embedding_bag
    return lambda values, indices, w_dec: bag(indices, w_dec, values)


def openai() -> Decoder:
    """`TritonDecoderAutograd` (indices, values, weight (d width)) of OpenAI's sparse_autoencoder."""
    decoder = module("sparse_autoencoder", "kernels.py").TritonDecoderAutograd
    return lambda values, indices, w_dec: decoder.apply(indices.long(), values, w_dec.T)


def selectors(bench: Bench, key: str) -> dict[str, Selector]:
    """Those of SELECTORS that are installed and right; the others' reasons go to the record."""
    makers = dict(zip(SELECTORS, (flashinfer, rtopk)))
    return _checked(bench, key, makers, _selects)


def decoders(bench: Bench, key: str) -> dict[str, Decoder]:
    """Those of DECODERS that are installed and right; the others' reasons go to the record."""
    return _checked(bench, key, dict(zip(DECODERS, (sparsify, openai))), _decodes)


def _checked(bench: Bench, key: str, makers: dict, check: Callable) -> dict:
    found = {}
    for name, make in makers.items():
        with bench.guarded(f"{key}/{name}", ours=False):
            try:
                peer = make()
            except NotInstalled as reason:
                bench.record.absent(f"{key}/{name}", str(reason))
                continue
            error = check(peer, bench.device, bench.dtype)
            if error <= BOUND:
                found[name] = peer
            else:
                bench.record.absent(f"{key}/{name}", f"is off by {error:.1e} of float64")
    return found


def _selects(peer: Selector, device: torch.device, dtype: torch.dtype) -> float:
    x = torch.randn(ROWS, WIDTH, device=device, dtype=dtype)
    values, indices = peer(x, K)
    wanted = x.topk(K, dim=-1).values
    named = x.gather(1, indices.long())
    return max(
        relative(got.sort(dim=-1, descending=True).values, wanted) for got in (values, named)
    )


def _decodes(peer: Decoder, device: torch.device, dtype: torch.dtype) -> float:
    values = torch.randn(ROWS, K, device=device, dtype=dtype).requires_grad_()
    w_dec = torch.randn(WIDTH, D_MODEL, device=device, dtype=dtype).requires_grad_()
    grad = torch.randn(ROWS, D_MODEL, device=device, dtype=dtype)
    indices = draw_indices(ROWS, WIDTH, K, "uniform", device)
    y = peer(values, indices, w_dec)
    got = [y, *torch.autograd.grad(y, (values, w_dec), grad)]
    wide = [tensor.detach().double().requires_grad_() for tensor in (values, w_dec)]
    expected = reference.sparse_decode(wide[0], indices, wide[1])
    wanted = [expected, *torch.autograd.grad(expected, wide, grad.double())]
    return max(relative(a, b) for a, b in zip(got, wanted))


def relative(got: Tensor, wanted: Tensor) -> float:
    """‖got − wanted‖ / ‖wanted‖ in float64."""
    wanted = wanted.detach().double()
    return float((got.detach().double() - wanted).norm() / wanted.norm().clamp(min=1e-30))
