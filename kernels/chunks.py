"""Selection from a matrix that is made a chunk of rows at a time and never held as a whole."""

from collections.abc import Iterable

import torch
from torch import Tensor

from pellucid.kernels.near import choose
from pellucid.kernels.select import best, columns_of, contenders, is_pruned, top_indices

CHUNK_BYTES = 16 * 2**20
"""Bytes held at a time: what stays in the cache between the making and the selection."""

MIN_CHUNK_ROWS = 256
"""Below this the encoder's matrix product loses more than the cache gives."""

Chunks = Iterable[tuple[slice, Tensor]]
"""Rows and what they hold (rows width), which may be gone when the next chunk is asked for."""


def row_chunks(rows: int, width: int, itemsize: int) -> list[slice]:
    """All rows of a matrix in chunks of CHUNK_BYTES or MIN_CHUNK_ROWS; of no rows, an empty one."""
    size = max(CHUNK_BYTES // (width * itemsize), MIN_CHUNK_ROWS)
    return [slice(start, min(start + size, rows)) for start in range(0, max(rows, 1), size)]


def select(
    chunks: Chunks,
    shape: tuple[int, int],
    k: int,
    *,
    signed: bool,
    positive: bool = False,
    mode: str = "exact",
) -> tuple[Tensor, Tensor]:
    """Values (rows k) and int32 columns, ascending, of the k that `mode` takes of each row.

    The chunks are those of a matrix of this shape (rows width). `signed` ranks by magnitude,
    `positive` is as in `select.top_indices`.
    """
    if mode == "exact" and is_pruned(*shape, k):
        return _pruned(chunks, shape, k, signed, positive)
    values, indices = [], []
    for _, held in chunks:
        if mode == "exact":
            chosen = top_indices(held.abs() if signed else held, k, positive=positive)
        else:
            chosen = choose(held, k, signed, mode)
        values.append(held.gather(1, chosen))
        indices.append(chosen.int())
    return torch.cat(values), torch.cat(indices)


def _pruned(
    chunks: Chunks, shape: tuple[int, int], k: int, signed: bool, positive: bool
) -> tuple[Tensor, Tensor]:
    """What may be chosen is found in each chunk, and chosen from in one go: it is little."""
    found, values = [], []
    for part, held in chunks:
        entries, keys = contenders(held.abs() if signed else held, k, positive=positive)
        values.append(held.take(entries) if signed else keys)
        found.append(entries.add_(part.start * shape[1]))
    entries, value = torch.cat(found), torch.cat(values)
    keys = value.abs() if signed else value
    chosen = best(entries, keys, shape, k, positive=positive)
    return value.take(chosen), columns_of(entries.take(chosen), shape[1]).int()
