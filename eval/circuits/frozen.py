"""Norms held still, so that a circuit cannot do its work by what it does to their scales.

A node that is left out changes the size of the stream, and by it every norm after it: a pruner may
find circuits that work by such changes alone. A published re-training saw its circuits lose their
task without them, hence this control.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pellucid.models import unwrap
from pellucid.models.norm import NORMS, LayerNorm
from pellucid.models.units import SiteState, restored

Scales = tuple[Float[Tensor, "row token 1"], ...]
"""Of each norm of the stream, in the order of the modules."""


@contextmanager
def held_at(model: nn.Module, scales: Scales) -> Iterator[None]:
    """Hold the scale of every norm of the stream at what it was when `scales_of` took it.

    Passes inside read the same rows, once or several times over, as copies do; ValueError for
    others. The scales are constants to gradients. Norms inside a layer (of queries and keys, SoLU's)
    belong to the layer and go on as ever.
    """
    inner = unwrap(model)
    norms = _norms(inner)
    held = [partial(_held, norm, scale) for norm, scale in zip(norms, scales, strict=True)]
    # A compiled block would go on with the norms it was compiled with.
    with _uncompiled(inner), _replaced(norms, held):
        yield


def are_held(model: nn.Module) -> bool:
    """Whether norms are held just now, which know the rows that passes may read."""
    return any("forward" in vars(norm) for norm in _norms(unwrap(model)))


@torch.no_grad()
def scales_of(model: nn.Module, tokens: Integer[Tensor, "row token"]) -> Scales:
    """What each norm of the stream multiplies each token by in an unedited pass.

    Edits in force do not reach it. Norms that are held meanwhile show what they would do if they
    were not.
    """
    inner = unwrap(model)
    norms = _norms(inner)
    seen: dict[nn.Module, Tensor] = {}

    def look(norm: nn.Module, x: Tensor) -> Tensor:
        seen[norm] = _scale(norm, x)
        return type(norm).forward(norm, x)

    sites = list(inner.sites().values())
    idle = [SiteState() for _ in sites]
    looking = [partial(look, norm) for norm in norms]
    with _uncompiled(inner), _replaced(norms, looking), restored(sites, idle):
        inner(tokens)
    return tuple(seen[norm] for norm in norms)


def _norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, tuple(NORMS.values()))]


def _scale(norm: nn.Module, x: Float[Tensor, "row token d_model"]) -> Float[Tensor, "row token 1"]:
    centred = _centred(norm, x)
    return (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt()


def _centred(norm: nn.Module, x: Tensor) -> Tensor:
    # As wide as the norms of torch compute, whatever the weights are.
    x = x.float() if x.dtype.itemsize < 4 else x
    return x - x.mean(-1, keepdim=True) if isinstance(norm, LayerNorm) else x


def _held(
    norm: nn.Module,
    scale: Float[Tensor, "row token 1"],
    x: Float[Tensor, "copies_row column d_model"],
) -> Tensor:
    """What the norm gives where its scale is a constant: a linear map of x."""
    copies, rest = divmod(len(x), len(scale))
    if rest or not copies or x.shape[1] != scale.shape[1]:
        wanted, got = tuple(scale.shape[:2]), tuple(x.shape[:2])
        raise ValueError(
            f"frozen norms know {wanted} rows and tokens, or copies of those rows; got {got}"
        )
    normed = (_centred(norm, x) * scale.repeat(copies, 1, 1)).to(x.dtype) * norm.weight
    return normed + norm.bias if isinstance(norm, LayerNorm) else normed


@contextmanager
def _replaced(norms: Sequence[nn.Module], forwards: Sequence[partial]) -> Iterator[None]:
    before = [vars(norm).get("forward") for norm in norms]
    for norm, forward in zip(norms, forwards, strict=True):
        norm.forward = forward
    try:
        yield
    finally:
        for norm, forward in zip(norms, before, strict=True):
            if forward is None:
                del norm.forward
            else:
                norm.forward = forward


@contextmanager
def _uncompiled(model: nn.Module) -> Iterator[None]:
    before = [block.fast for block in model.blocks]
    for block in model.blocks:
        block.fast = None
    try:
        yield
    finally:
        for block, fast in zip(model.blocks, before, strict=True):
            block.fast = fast
