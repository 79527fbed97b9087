"""Selection from a matrix that is made a chunk of rows at a time and never held as a whole."""

from collections.abc import Iterable

import torch
from torch import Tensor

from pellucid.kernels.near import choose

CHUNK_BYTES = 16 * 2**20
"""Bytes held at a time: what stays in the cache between the making and the selection."""

MIN_CHUNK_ROWS = 256
"""Below this the encoder's matrix product loses more than the cache gives."""

Chunks = Iterable[tuple[slice, Tensor]]
"""Rows and what they hold (rows width), which may be gone when the next chunk is asked for."""


def row_chunks(rows: int, width: int, itemsize: int, least: int = MIN_CHUNK_ROWS) -> list[slice]:
    """All rows of a matrix in chunks of CHUNK_BYTES or `least` rows; of no rows, an empty one."""
    size = max(CHUNK_BYTES // (width * itemsize), least)
    return [slice(start, min(start + size, rows)) for start in range(0, max(rows, 1), size)]


def select(chunks: Chunks, k: int, *, signed: bool, mode: str = "exact") -> tuple[Tensor, Tensor]:
    """Values (rows k) and int32 columns, ascending, of the k that `mode` takes of each row.

    The chunks are those of a matrix (rows width). `signed` ranks by magnitude.
    """
    values, indices = [], []
    for _, held in chunks:
        chosen = choose(held, k, signed, mode)
        values.append(held.gather(1, chosen))
        indices.append(chosen.int())
    return torch.cat(values), torch.cat(indices)
