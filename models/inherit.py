"""How a layer starts from the weights of a dense MLP, whatever it calls its own."""

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.sharding import like, set_rows

Names = tuple[str, str, str, str]
"""Read matrix, its bias, write matrix, its bias; matrices are `(width, d_model)`."""

KNOWN: tuple[Names, ...] = (
    ("w_in", "b_in", "w_out", "b_out"),
    ("w_enc", "b_enc", "w_dec", "b_dec"),
)
GATE = ("w_up", "b_up")


def named(parameters: Collection[str]) -> Names | None:
    """What a layer with these parameters calls those of a dense MLP; None where it has none."""
    return next((names for names in KNOWN if set(names) <= set(parameters)), None)


def dense_of(layer: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The four parameters, in order, of a layer that has no matrices beside them; else None."""
    names = named(layer)
    matrices = {name for name, value in layer.items() if value.ndim > 1}
    if names is None or matrices != {names[0], names[2]}:
        return None
    return {name: layer[name] for name in names}


@torch.no_grad()
def take_rows(
    layer: nn.Module,
    w_in: Float[Tensor, "unit d_model"],
    b_in: Float[Tensor, " unit"],
    w_out: Float[Tensor, "unit d_model"],
    b_out: Float[Tensor, " d_model"],
) -> tuple[str, ...]:
    """Make a dense MLP's units the layer's first; returns the parameters set, none if unfit.

    A layer fits that has the four parameters and at least as many units. Its further units keep
    the directions they read and write nothing until they have learned to: what they would write
    is noise to the layers above, and a gradient reaches them all the same. A gate beside them
    (`w_up, b_up`) starts open, at 1 whatever the input, as the dense MLP had none.
    """
    own = dict(layer.named_parameters(recurse=False))
    names = named(own)
    if names is None or not _fits(own[names[0]], w_in) or not _fits(own[names[2]], w_out):
        return ()
    read, bias, write, offset = (own[name] for name in names)
    rows = torch.arange(len(w_in), device=w_in.device)
    write.copy_(like(torch.zeros(write.shape), write))
    for parameter, value in ((read, w_in), (bias, b_in), (write, w_out)):
        set_rows(parameter, rows, value.to(parameter.dtype))
    offset.copy_(like(b_out, offset))
    if not set(GATE) <= own.keys():
        return names
    for name, value in zip(GATE, (torch.zeros_like(w_in), torch.ones_like(b_in)), strict=True):
        set_rows(own[name], rows, value.to(own[name].dtype))
    return names + GATE


def _fits(own: Tensor, given: Tensor) -> bool:
    return own.ndim == 2 and own.shape[1] == given.shape[1] and own.shape[0] >= given.shape[0]
