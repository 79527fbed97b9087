"""What one weight does: it is set to 0, and the tokens whose prediction changes most are shown."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Integer
from torch import Tensor, nn

from pellucid.errors import UserError
from pellucid.models import unwrap

if TYPE_CHECKING:
    from pellucid.data import Tokenizer
    from pellucid.run import Run

ROWS = 64
"""Rows of text that are read."""
BEFORE = 8
"""Tokens of context that are shown."""
AT_ONCE = 8192
"""Tokens read in one pass."""


class Affected(NamedTuple):
    """A token whose prediction the weight changes."""

    row: int
    place: int
    """column of the token that is predicted"""
    change: float
    """by how much its cost rises without the weight, in nats"""
    cost: float
    """what it costs the model as it is, in nats"""
    text: str
    """tokens before it, then the token between ⟦ and ⟧; numbers where there is no tokenizer"""


@dataclass(frozen=True)
class Effects:
    """One weight, and what setting it to 0 does to the prediction of every token."""

    parameter: str
    index: tuple[int, ...]
    weight: float
    mean: float
    """rise of the cost per token, in nats"""
    share: float
    """share of the tokens whose cost changes by more than a thousandth of a nat"""
    tokens: list[Affected]
    """those that change most, the largest change first"""


def effects(
    model: nn.Module,
    parameter_name: str,
    index: tuple[int, ...],
    rows: Integer[Tensor, "row token"],
    tokenizer: "Tokenizer | None" = None,
    most: int = 10,
) -> Effects:
    """What setting one weight to 0 does on rows of text; the model is as before afterwards.

    Raises UserError for a parameter that does not exist, an index that it does not have, and a
    weight that already is 0, which therefore does nothing.
    """
    parameter = _parameter(model, parameter_name, index)
    weight = float(parameter.detach()[index])
    if weight == 0:
        raise UserError(f"{parameter_name}{list(index)} is 0: without it nothing changes")
    plain = _costs(model, rows)
    with torch.no_grad():
        kept = parameter[index].clone()
        parameter[index] = 0.0
        try:
            change = _costs(model, rows) - plain
        finally:
            parameter[index] = kept
    order = change.abs().flatten().argsort(descending=True, stable=True)[:most].tolist()
    width = change.shape[1]
    places = [(at // width, at % width) for at in order]
    listed = [
        Affected(r, c + 1, float(change[r, c]), float(plain[r, c]), _shown(rows[r], c, tokenizer))
        for r, c in places
        if change[r, c] != 0
    ]
    felt = float((change.abs() > 1e-3).double().mean())
    return Effects(parameter_name, index, weight, float(change.mean()), felt, listed)


def _parameter(model: nn.Module, name: str, index: tuple[int, ...]) -> Tensor:
    known = dict(unwrap(model).named_parameters())
    if name not in known:
        raise UserError(f"the model has no parameter {name!r}; there are {', '.join(known)}")
    shape = tuple(known[name].shape)
    fits = len(index) == len(shape) and all(
        0 <= i < size for i, size in zip(index, shape, strict=True)
    )
    if not fits:
        raise UserError(
            f"{name} has shape {shape} and no weight at {','.join(map(str, index))}; "
            f"{len(shape)} numbers from 0, each below its size, are accepted"
        )
    return known[name]


@torch.no_grad()
def _costs(model: nn.Module, rows: Integer[Tensor, "row token"]) -> Tensor:
    """Nats of each token but the first, given those before it: `(row, token - 1)`."""
    device = next(model.parameters()).device
    found = []
    for some in rows.split(max(1, AT_ONCE // rows.shape[1])):
        here = some.to(device).long()
        logits = model(here[:, :-1]).logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        cost = F.cross_entropy(logits.flatten(0, 1), here[:, 1:].flatten(), reduction="none")
        found.append(cost.view(len(here), -1).double().cpu())
    return torch.cat(found)


def _shown(row: Tensor, column: int, tokenizer: "Tokenizer | None") -> str:
    """The token after `column` in its context."""
    before, target = row[max(0, column + 1 - BEFORE) : column + 1].tolist(), int(row[column + 1])
    if tokenizer is None:
        return f"{' '.join(map(str, before))} ⟦{target}⟧"
    return f"{tokenizer.decode(before)}⟦{tokenizer.decode([target])}⟧".replace("\n", "⏎")


def named(text: str) -> tuple[str, tuple[int, ...]]:
    """A weight as it is given on the command line: `blocks.0.mlp.w_enc:3,5`."""
    match = re.fullmatch(r"([\w.]+):(\d+(?:,\d+)*)", text)
    if match is None:
        raise UserError(
            f"--weight is {text!r}; a parameter and the place in it are accepted, "
            "as in blocks.0.mlp.w_enc:3,5"
        )
    return match[1], tuple(map(int, match[2].split(",")))


def lines(run: "Run", text: str) -> list[str]:
    """What to print of one weight of a run: its effect on rows of the held-out text."""
    name, index = named(text)
    _parameter(run.model, name, index)
    context = run.model.config.context
    rows = run.data.rows(0, 0, batch=ROWS, context=context, split="val").tokens
    found = effects(run.model, name, index, rows, run.tokenizer)
    place = ",".join(map(str, index))
    head = (
        f"{name}[{place}] = {found.weight:.4g}; without it a token costs {found.mean:+.3g} nats "
        f"on average, and {found.share:.2%} of {rows.shape[0] * (rows.shape[1] - 1):,} tokens change"
    )
    return [head, *(f"{each.change:+8.3f} nats  {each.text}" for each in found.tokens)]
