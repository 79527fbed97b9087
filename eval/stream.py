"""Held-out text as one stream of whole documents, and the windows a model reads it through."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor, nn

from pellucid.errors import RunError
from pellucid.models import Trace, record

CHUNK_TOKENS = 8192
"""Tokens read at once, where what they leave behind fits `CHUNK_NUMBERS`."""
CHUNK_NUMBERS = 2**26
"""Logits and activations kept at once, over all sites."""


@dataclass(frozen=True)
class Stream:
    """Documents laid end to end, each as eot, t1 … tn.

    Position p predicts the token after it; the last one predicts an eot that is not stored. So
    every document is charged for its own tokens and for the eot that ends it, each exactly once.
    """

    tokens: Integer[np.ndarray, " token"]
    offsets: Integer[np.ndarray, " documents_plus_1"]
    names: list[str]
    doc_bytes: Integer[np.ndarray, " document"]
    """UTF-8 bytes of text"""
    eot: int
    complete: bool
    """whether these are all documents of the split"""

    @property
    def n_documents(self) -> int:
        return len(self.names)

    def targets(self) -> Integer[np.ndarray, " token"]:
        return np.append(self.tokens[1:], self.eot)

    def per_document(self, per_token: np.ndarray) -> np.ndarray:
        """Sums of a number per position over each document."""
        return np.add.reduceat(per_token, self.offsets[:-1])

    @cached_property
    def document(self) -> Integer[np.ndarray, " token"]:
        """Document of each position."""
        return np.repeat(np.arange(self.n_documents), np.diff(self.offsets))

    @property
    def flags(self) -> tuple[str, ...]:
        """The sentence that is needed where not the whole split is read."""
        n, tokens = self.n_documents, len(self.tokens)
        return () if self.complete else (f"a seeded sample of {n} documents, {tokens:,} tokens",)


def sample(split: object, *, eot: int, tokens: int | None, seed: int) -> Stream:
    """Whole documents of a split in their own order: all, or a seeded sample of about `tokens`.

    A document that would overshoot is passed over; where none fits, the shortest is taken. Raises
    RunError for a split without documents.
    """
    lengths = np.diff(split.offsets)
    if len(lengths) == 0:
        raise RunError(
            "the held-out split has no document: train on data with a larger share of it"
        )
    if tokens is None or lengths.sum() <= tokens:
        chosen = np.arange(len(lengths))
    else:
        chosen = _choose(lengths, tokens, seed)
    pieces = [np.asarray(split.tokens[split.offsets[d] : split.offsets[d + 1]]) for d in chosen]
    return Stream(
        tokens=np.concatenate(pieces).astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum(lengths[chosen])]),
        names=[split.names[d] for d in chosen],
        doc_bytes=np.asarray(split.doc_bytes)[chosen],
        eot=eot,
        complete=len(chosen) == len(lengths),
    )


def _choose(lengths: np.ndarray, tokens: int, seed: int) -> np.ndarray:
    taken, chosen = 0, []
    for document in np.random.default_rng(seed).permutation(len(lengths)):
        if taken + lengths[document] <= tokens:
            chosen.append(document)
            taken += lengths[document]
    return np.sort(chosen) if chosen else np.array([lengths.argmin()])


class Window(NamedTuple):
    """Some rows of the stream after the model has read them."""

    starts: Integer[np.ndarray, " row"]
    """position of the first token of each row"""
    fresh: Integer[np.ndarray, " row"]
    """columns from here on are predicted by no earlier row"""
    length: int
    logits: Tensor
    trace: Trace

    @property
    def positions(self) -> Integer[np.ndarray, "row column"]:
        return self.starts[:, None] + np.arange(self.length)


@torch.no_grad()
def walk(
    model: nn.Module,
    stream: Stream,
    *,
    context: int,
    stride: int,
    sites: tuple[str, ...] = (),
    first: int = 0,
) -> Iterator[Window]:
    """Read the stream from position `first` on in rows of `context` tokens that start `stride`
    apart; record the sites."""
    device = next(model.parameters()).device
    tokens = torch.from_numpy(stream.tokens)
    with record(model, sites) as trace:
        rows_at_once = chunk_rows(model, context, sites)
        for starts, length in batches(len(tokens) - first, context, stride, rows_at_once):
            starts = starts + first
            rows = torch.stack([tokens[a : a + length] for a in starts]).to(device)
            fresh = np.where(starts == 0, 0, context - stride)
            yield Window(starts, fresh, length, model(rows).logits, trace)


def batches(
    n: int, context: int, stride: int, rows: int
) -> Iterator[tuple[Integer[np.ndarray, " row"], int]]:
    """(starts, length) of rows that together reach all of n positions; the last may be short."""
    last = max(0, -(-(n - context) // stride)) * stride
    full = np.arange(0, last + (n - last == context), stride)
    for i in range(0, len(full), rows):
        yield full[i : i + rows], context
    if n - last < context:
        yield np.array([last]), n - last


def chunk_rows(model: nn.Module, context: int, sites: tuple[str, ...]) -> int:
    """Rows of one chunk, at least one, so that logits and activations stay within memory."""
    numbers = model.vocab_size + sum(model.sites()[name].n_units for name in sites)
    return max(1, min(CHUNK_TOKENS, CHUNK_NUMBERS // numbers) // context)
