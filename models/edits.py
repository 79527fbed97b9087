"""Edits of a site's activations: ablate, set, scale, add, mix, patch, by unit, position, example."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pellucid.models.activations import Activations

Selection = Sequence[int] | Tensor | None


class Mixture(NamedTuple):
    """`share · x + (1 − share) · base`, of activations x."""

    share: Tensor
    """(units,), or (some, units) where each is for as many neighbouring examples of the batch"""
    base: float | Tensor
    """a number, (units,), or (batch, token, units)"""


@dataclass(frozen=True)
class Edit:
    """One change of activations; `None` selects all units, positions or examples."""

    op: Literal["set", "scale", "add", "mix", "patch"]
    value: float | Tensor | Mixture | Activations
    units: Tensor | None
    positions: Tensor | None
    examples: Tensor | None

    def check(self, name: str, n_units: int) -> None:
        """Raise ValueError where units or values do not fit a site of so many units."""
        if self.units is not None:
            _check_units(name, self.units, n_units)
        n_selected = n_units if self.units is None else len(self.units)
        if self.op == "patch":
            _check_source(name, self.value, n_units)
        elif self.op == "mix":
            _check_mixture(name, self.value, n_selected)
        else:
            _check_value(name, self.value, n_selected)


def _check_units(name: str, units: Tensor, n_units: int) -> None:
    if len(units.unique()) != len(units):
        raise ValueError(f"edit of {name}: a unit is named twice in {units.tolist()}")
    wrong = units[(units < 0) | (units >= n_units)]
    if len(wrong):
        raise ValueError(
            f"edit of {name}: unit {int(wrong[0])} does not exist; units are 0 … {n_units - 1}"
        )


def _check_value(name: str, value: object, n_selected: int) -> None:
    """One number for all, or one for each selected unit: anything else would broadcast."""
    if isinstance(value, Real):
        return
    if not isinstance(value, Tensor):
        raise ValueError(
            f"edit of {name}: a value is a number or a tensor; got {type(value).__name__}"
        )
    if value.shape not in ((), (n_selected,)):
        raise ValueError(
            f"edit of {name}: a number or {n_selected} values, one for each selected unit, "
            f"are accepted; got shape {tuple(value.shape)}"
        )


def _check_mixture(name: str, mixture: Mixture, n_selected: int) -> None:
    for part, value, most in (("share", mixture.share, 2), ("base", mixture.base, 3)):
        if isinstance(value, Real):
            continue
        if not 1 <= value.ndim <= most or value.shape[-1] != n_selected:
            raise ValueError(
                f"edit of {name}: the {part} of a mixture has a last axis of {n_selected}, one for "
                f"each selected unit, and at most {most} axes; got shape {tuple(value.shape)}"
            )


def _check_source(name: str, source: Activations, n_units: int) -> None:
    found = source.n_units
    if not source.is_sparse:
        # The values themselves tell: heads are the second axis of edges, units else the last.
        found = source.values.shape[1 if source.values.ndim == 4 else -1]
    if found != n_units:
        raise ValueError(
            f"edit of {name}: it has {n_units} units, and the patch comes from a site of {found}"
        )


def ablate(
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
    value: float | Tensor = 0.0,
) -> Edit:
    """Hold units at `value`: 0, or means `(units,)` for mean ablation."""
    return set_to(value, units, positions=positions, examples=examples)


def set_to(
    value: float | Tensor,
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
) -> Edit:
    """Set units to a number or to values `(units,)`; silent units become active."""
    return _edit("set", value, units, positions, examples)


def scale(
    factor: float | Tensor,
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
) -> Edit:
    """Multiply units by a number or by factors `(units,)`."""
    return _edit("scale", factor, units, positions, examples)


def add(
    value: float | Tensor,
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
) -> Edit:
    """Add a number or values `(units,)` to units; silent units become active."""
    return _edit("add", value, units, positions, examples)


def mix(
    share: Tensor,
    base: float | Tensor = 0.0,
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
) -> Edit:
    """Move units towards `base` as far as `share` falls below 1: soft ablation, differentiable.

    `share` is `(units,)`, or `(some, units)` where each row is for as many neighbouring examples;
    `base` a number, `(units,)` or `(batch, token, units)`. Gradients reach both. On attention
    edges the base is a number or `(units,)`. ValueError where rows do not divide the batch.
    """
    return _edit("mix", Mixture(share, base), units, positions, examples)


def patch(
    source: Activations,
    units: Selection = None,
    *,
    positions: Selection = None,
    examples: Selection = None,
) -> Edit:
    """Take the units' activations from another pass over a batch of as many rows.

    The other pass may be shorter or longer, where it reaches the last selected position.
    """
    if not isinstance(source, Activations):
        raise ValueError(
            f"patch takes the Activations of one site, as in trace['blocks.0.mlp']; "
            f"got {type(source).__name__}"
        )
    return _edit("patch", source, units, positions, examples)


def _edit(op, value, units, positions, examples) -> Edit:
    units = _ids("units", units)
    positions, examples = _ids("positions", positions), _ids("examples", examples)
    for name, ids in (("positions", positions), ("examples", examples)):
        if ids is not None and len(ids) and int(ids.min()) < 0:
            raise ValueError(f"{name} are absolute and count from 0; got {ids.tolist()}")
    return Edit(op, value, units, positions, examples)


def _ids(name: str, selection: Selection) -> Tensor | None:
    """The selected numbers; what is not an integer is refused, since 0.9 and True would be cut."""
    if selection is None:
        return None
    try:
        ids = torch.as_tensor(selection)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} are a list or tensor of integers; got {selection!r}") from None
    listed = isinstance(selection, list | tuple)
    if ids.dtype == torch.bool or (listed and any(isinstance(i, bool) for i in selection)):
        raise ValueError(f"{name} is a boolean mask; integers are accepted: use mask.nonzero()")
    if listed and not selection:
        return torch.empty(0, dtype=torch.long)
    if ids.is_floating_point() or ids.is_complex():
        raise ValueError(f"{name} are integers; got {ids.dtype}")
    # nonzero() of a mask is one column; more columns are no list of numbers.
    if ids.ndim > 2 or (ids.ndim == 2 and ids.shape[1] != 1):
        raise ValueError(f"{name} are a list of integers; got shape {tuple(ids.shape)}")
    return ids.long().reshape(-1)
