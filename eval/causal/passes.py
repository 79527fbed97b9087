"""Rows of the stream read again under edits: what each prediction costs, in nats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from pellucid.eval.causal.chosen import Unit, by_site
from pellucid.eval.processes import each
from pellucid.eval.score import NoValue
from pellucid.eval.stream import Stream, chunk_rows
from pellucid.models import Activations, Edit, intervene, record

if TYPE_CHECKING:
    from pellucid.eval.controls import System
    from pellucid.eval.elsewhere import Sent

Edits = Mapping[str, Edit]
Edited = Callable[[slice], Edits]
"""The edits of a pass, told which of the rows are being read."""


@dataclass(frozen=True)
class Rows:
    """Some rows of the stream, read as in the end-to-end pass."""

    tokens: Integer[Tensor, "row column"]
    places: Integer[np.ndarray, "row column"]
    """positions of the stream"""
    scored: Bool[np.ndarray, "row column"]
    """whether the prediction of the token after it counts: it lies in the half, and the labels are
    known"""


def rows_of(
    stream: Stream,
    half: Integer[np.ndarray, " token"],
    *,
    context: int,
    tokens: int,
    seed: int,
    which: int = 1,
) -> Rows:
    """About so many tokens in a seeded sample of rows that lie mostly in half `which`.

    Rows are dealt from all documents in turn: intervals are over documents.
    `half` is 0 for A, 1 for B, and anything else for tokens that do not count. Raises NoValue where
    there are fewer than two such rows.
    """
    length = max(1, min(context, len(stream.tokens) // 4))
    starts = np.arange(0, len(stream.tokens) - length + 1, length)
    places = starts[:, None] + np.arange(length)
    scored = half[places] == which
    fit = np.flatnonzero(scored.mean(1) >= 0.5)
    if len(fit) < 2:
        raise NoValue(f"fewer than 2 rows of {length} tokens lie in half {'AB'[which]} of the text")
    wanted = max(2, tokens // length)
    drawn = np.random.default_rng(seed).permutation(fit)
    turn = _turns(stream.document[places[drawn, length // 2]])
    chosen = np.sort(drawn[np.argsort(turn, kind="stable")][:wanted])
    return Rows(torch.from_numpy(stream.tokens[places[chosen]]), places[chosen], scored[chosen])


def _turns(document: Integer[np.ndarray, " row"]) -> Integer[np.ndarray, " row"]:
    """How many rows of the same document stand before each."""
    order = np.argsort(document, kind="stable")
    first = np.searchsorted(document[order], document)
    turn = np.empty(len(document), dtype=np.int64)
    turn[order] = np.arange(len(document))
    return turn - first


def nats(
    model: nn.Module, rows: Rows, stream: Stream, edits: Edited | None = None
) -> Float[np.ndarray, "row column"]:
    """What the prediction after each token costs; `edits` are made for some rows at a time."""
    return _nats(model, rows.tokens.numpy(), stream.targets()[rows.places], edits)


def nats_of_each(
    system: "System", rows: Rows, passes: Sequence[Edited | None]
) -> list[Float[np.ndarray, "row column"]]:
    """The same under each of several edits, in all processes there are.

    What is to be sent makes its edits from arrays of numpy: tensors are not sent.
    """
    if system.sent is None:
        return [nats(system.model, rows, system.stream, edits) for edits in passes]
    about = (system.sent, rows.tokens.numpy(), system.stream.targets()[rows.places])
    return each([partial(_nats_there, *about, edits) for edits in passes])


def _nats_there(
    sent: "Sent",
    tokens: Integer[np.ndarray, "row column"],
    targets: Integer[np.ndarray, "row column"],
    edits: Edited | None,
) -> Float[np.ndarray, "row column"]:
    return _nats(sent.model, tokens, targets, edits)


@torch.no_grad()
def _nats(
    model: nn.Module,
    tokens: Integer[np.ndarray, "row column"],
    targets: Integer[np.ndarray, "row column"],
    edits: Edited | None,
) -> Float[np.ndarray, "row column"]:
    read, predicted, found = torch.from_numpy(tokens), torch.from_numpy(targets), []
    for at in chunks(model, read):
        with intervene(model, edits(at) if edits else {}):
            logits = model(read[at].to(_device(model))).logits.float()
        cost = F.cross_entropy(
            logits.flatten(0, 1), predicted[at].flatten().to(logits.device), reduction="none"
        )
        found.append(cost.view(logits.shape[:2]).double().cpu())
    return torch.cat(found).numpy()


@torch.no_grad()
def values_of(
    model: nn.Module, tokens: Integer[Tensor, "row column"], units: Mapping[str, list[int]]
) -> dict[str, Float[Tensor, "row column picked"]]:
    """What some units do on rows, by site."""
    found: dict[str, list[Tensor]] = {site: [] for site in units}
    with record(model, tuple(units)) as trace:
        for at in chunks(model, tokens):
            model(tokens[at].to(_device(model)))
            for site, numbers in units.items():
                picked = torch.tensor(numbers, device=_device(model))
                found[site].append(trace[site].select(picked))
    return {site: torch.cat(pieces) for site, pieces in found.items()}


def as_source(values: Tensor, numbers: list[int], n_units: int) -> Activations:
    """Values of some units, ascending, in the form that `patch` takes them from."""
    indices = torch.tensor(numbers, dtype=torch.int32, device=values.device)
    return Activations(values, indices.expand(values.shape), n_units)


def chunks(model: nn.Module, tokens: Integer[Tensor, "row column"]) -> list[slice]:
    """Rows that are read at once."""
    size = chunk_rows(model, tokens.shape[1], ())
    return [slice(first, first + size) for first in range(0, len(tokens), size)]


def all_units(sets: list[tuple[Unit, ...]]) -> dict[str, list[int]]:
    """Every unit of several sets, by site."""
    return by_site(unit for each in sets for unit in each)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
