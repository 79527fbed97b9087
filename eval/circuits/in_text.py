"""Where the nodes of a circuit are active in held-out text: `circuits/<task>.contexts.json`.

The bands are those of `eval/contexts.py`: what a node does is shown over its whole range, and where
it does nothing.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.contexts import Context, Contexts
from pellucid.eval.moments import Moments
from pellucid.eval.stream import CHUNK_TOKENS, Stream, batches, chunk_rows, sample
from pellucid.models import Activations, record, unwrap

if TYPE_CHECKING:
    from pellucid.run import Run

FORMAT = 1
SPLIT = "val"
TOKENS = 8_192
"""Most tokens that are read. A column of values takes 32 KiB: 32 MiB for the 512 nodes that a
circuit's file lists at most, where each is a query and a key."""
BANDS = ("top", "p90", "p50", "p10", "silent")
MOST = 2
"""Contexts of each band; fewer than in `units.json`, and shorter: circuits have hundreds of nodes."""
BEFORE, AFTER = 11, 4
"""Tokens on either side of the one that a context is about."""


class Column(NamedTuple):
    """One value per token: a node's, or that of its query or key."""

    node: str
    part: str
    """`q` or `k` where a node is both; empty where it has one value"""
    units: Integer[Tensor, " unit"]
    """of the site; of several, as of a head, it is the root mean square"""


def in_text(run: "Run", nodes: Nodes, names: Sequence[str], *, seed: int) -> dict[str, Any]:
    """Contexts of named nodes of a run's model, over at most `TOKENS` tokens of held-out text.

    Under `nodes`, by name, stands an entry for each of its values, with its `part`, whether it is
    `signed`, and contexts as in `units.json`, but that documents are numbers of `documents`; `vocab`
    has the texts of the tokens. A node whose activations are of pairs of tokens has no entry, and
    one that is never active has silent contexts alone. RunError: the split has no document.
    """
    stream, context = _text(run, seed), run.config.model.context
    columns = _columns(nodes, names)
    values = _read(run.model, stream, columns, context)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for site, (per_token, sparse) in values.items():
        signed = run.model.sites()[site].signed
        contexts = _contexts(per_token, stream, context, signed=signed and not sparse, seed=seed)
        for i, column in enumerate(columns[site]):
            shown = [_packed(stream, one) for one in _chosen(contexts.of(i))]
            about = {"part": column.part, "signed": signed and len(column.units) == 1}
            found[column.node].append(about | {"contexts": shown})
    every = [one for parts in found.values() for part in parts for one in part["contexts"]]
    used = sorted({one["document"] for one in every})
    for one in every:
        one["document"] = used.index(one["document"])
    tokens = sorted({token for one in every for token in one["tokens"]})
    return {
        "format": FORMAT,
        "step": run.step,
        "split": SPLIT,
        "n_tokens": len(stream.tokens),
        "documents": [stream.names[document] for document in used],
        "vocab": {str(token): run.tokenizer.token_text(token) for token in tokens},
        "nodes": found,
    }


def _text(run: "Run", seed: int) -> Stream:
    """Whole documents, but for one that alone is longer than what is read."""
    stream = sample(run.data.split(SPLIT), eot=run.tokenizer.eot, tokens=TOKENS, seed=seed)
    if len(stream.tokens) <= TOKENS:
        return stream
    return replace(stream, tokens=stream.tokens[:TOKENS], offsets=np.array([0, TOKENS]))


def _columns(nodes: Nodes, names: Sequence[str]) -> dict[str, list[Column]]:
    """The columns of each site."""
    wanted, found = set(names), defaultdict(list)
    for group in nodes.groups:
        for index in range(group.size):
            name = f"{group.name}:{index}"
            if name not in wanted:
                continue
            for site, places in group.places.items():
                part = site.rpartition(".")[2] if len(group.places) > 1 else ""
                units = (places == index).nonzero()[:, 0]
                found[site].append(Column(name, part, units))
    return dict(found)


@torch.no_grad()
def _read(
    model: nn.Module, stream: Stream, columns: Mapping[str, list[Column]], context: int
) -> dict[str, tuple[Float[np.ndarray, "token column"], bool]]:
    """By site the values of its columns, and whether the site is sparse; none of pairs of tokens."""
    inner, n = unwrap(model), len(stream.tokens)
    device = next(model.parameters()).device
    tokens = torch.from_numpy(stream.tokens)
    kept, sparse = {}, {}
    with record(model, tuple(columns)) as trace:
        at_once = chunk_rows(inner, context, tuple(columns))
        for starts, length in batches(n, context, context, at_once):
            rows = torch.stack([tokens[a : a + length] for a in starts]).to(device)
            # Nobody reads the logits: one of each row is the least that a pass computes.
            inner.logits_at(rows, torch.zeros_like(rows[:, 0]))
            for site, acts in trace.items():
                if acts.values.ndim == 4:
                    continue
                if site not in kept:
                    kept[site] = np.zeros((n, len(columns[site])), dtype=np.float32)
                    sparse[site] = acts.is_sparse
                kept[site][starts[0] : starts[0] + rows.numel()] = _values(acts, columns[site])
    return {site: (kept[site], sparse[site]) for site in columns if site in kept}


def _values(acts: Activations, columns: Sequence[Column]) -> Float[np.ndarray, "token column"]:
    units = torch.cat([column.units for column in columns]).to(acts.values.device)
    picked = acts.select(units).flatten(0, 1).float()
    sizes = [len(column.units) for column in columns]
    if max(sizes) > 1:
        parts = picked.split(sizes, dim=1)
        picked = torch.stack([part.square().mean(1).sqrt() for part in parts], dim=1)
    return picked.cpu().numpy()


def _contexts(
    values: Float[np.ndarray, "token column"],
    stream: Stream,
    context: int,
    *,
    signed: bool,
    seed: int,
) -> Contexts:
    """What `eval/contexts.py` finds in the columns of one site."""
    n, width = values.shape
    size = max(1, CHUNK_TOKENS // context) * context
    moments = Moments(width)
    chunks = [
        (first, Activations(torch.from_numpy(values[None, first : first + size])))
        for first in range(0, n, size)
    ]
    for _, acts in chunks:
        moments.add(acts)
    about = {"shown": width, "context": context, "seed": seed}
    found = Contexts(moments, moments.threshold(signed=signed), stream, **about)
    for first, acts in chunks:
        found.add(first, acts)
    return found


def _chosen(contexts: Sequence[Context]) -> list[Context]:
    """Of each band the first, which are the strongest or were drawn."""
    return [
        context
        for band in BANDS
        for context in islice((one for one in contexts if one.band == band), MOST)
    ]


def _packed(stream: Stream, found: Context) -> dict[str, Any]:
    """A context cut to its size, with values of three significant digits."""
    at = found.position - found.first
    first, last = max(0, at - BEFORE), min(len(found.values), at + AFTER + 1)
    return {
        "band": found.band,
        "document": int(stream.document[found.position]),
        "tokens": stream.tokens[found.first + first : found.first + last].tolist(),
        "values": [float(f"{value:.3g}") for value in found.values[first:last]],
        "center": at - first,
    }
