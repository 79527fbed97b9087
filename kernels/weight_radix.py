"""The k-th largest key of many matrices at once, exactly, by counting digits from the top down.

Each pass counts a digit of the keys whose higher digits are those of the answer so far; the counts
say which digit comes next. Where a matrix is spread over processes only the counts are added up.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from pellucid.kernels.weight_keys import guard_, highest, key_bits, keys


class Entries(Protocol):
    """The entries of some matrices of one dtype, in this process."""

    def counts(self, prefix: Tensor, shift: int, above: int) -> Tensor:
        """How often each digit occurs: int64 (matrices, 2^(above - shift)).

        The digit is bits `shift` to `above` of the keys whose bits from `above` on are `prefix`.
        """
        ...

    def cut(self, threshold: Tensor, room: Tensor) -> None:
        """Zero what is below the threshold (matrices), and of its equals all but the first `room`."""
        ...


def digits(dtype: torch.dtype, size: int) -> list[tuple[int, int]]:
    """(lowest bit, bit above) of each digit, from the top down; all but the first have `size` bits."""
    edges = [*range(0, key_bits(dtype), size), key_bits(dtype)]
    return list(pairwise(edges))[::-1]


def cut_largest(
    entries: Entries,
    keep: Tensor,
    dtype: torch.dtype,
    size: int,
    total: Callable[[Tensor], Tensor] = lambda counts: counts,
    share: Callable[[Tensor, Tensor], Tensor] = lambda room, ties: room,
) -> None:
    """Zero all but the `keep` (matrices) largest entries; guarded ones stay even if they are more.

    `total` adds counts up over processes, and `share` is how many of the entries equal to the
    threshold, `room` in all, this process may keep, of which it has `ties`.
    """
    prefix, room = torch.zeros_like(keep), keep
    for shift, above in digits(dtype, size):
        counts = entries.counts(prefix, shift, above)
        digit, room = pick(total(counts), room)
        prefix = (prefix << (above - shift)) | digit
    ties = counts.gather(1, digit[:, None])[:, 0]
    # If not even the guarded entries have room, they are the threshold, and all of them stay.
    room = room.where(prefix < highest(dtype), torch.iinfo(torch.int64).max)
    entries.cut(prefix, share(room, ties))


def pick(counts: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """The digit of the room-th largest by counts (matrices, digits), and the room left in it."""
    from_above = counts.flip(1).cumsum(dim=1).flip(1)
    digit = (from_above >= room[:, None]).sum(dim=1) - 1
    higher = from_above - counts
    return digit, room - higher.gather(1, digit[:, None])[:, 0]


class LibraryEntries:
    """`Entries` by library calls, for any device and every float type.

    `rows` and `columns` are the bounds of guarded entries (`weight_keys.bounds`) or None, one each
    for every matrix; `first_row` is where a part of a matrix begins. Weights are contiguous.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        rows: Sequence[Tensor | None],
        columns: Sequence[Tensor | None],
        first_row: Sequence[int] | None = None,
    ):
        self.weights = weights
        self.keys = [keys(weight) for weight in weights]
        for matrix, *guards in zip(self.keys, rows, columns, first_row or [0] * len(weights)):
            if guards[0] is not None or guards[1] is not None:
                guard_(matrix, *guards)
        self.left = [matrix.flatten() for matrix in self.keys]

    def counts(self, prefix: Tensor, shift: int, above: int) -> Tensor:
        """By `bincount`, of ever fewer keys."""
        if above < key_bits(self.weights[0].dtype):
            self.left = [
                left[(left >> above) == wanted]
                for left, wanted in zip(self.left, prefix.tolist(), strict=True)
            ]
        size = 1 << (above - shift)
        digit = [(left >> shift) & (size - 1) for left in self.left]
        return torch.stack([torch.bincount(part, minlength=size) for part in digit])

    def cut(self, threshold: Tensor, room: Tensor) -> None:
        """One comparison and one product of bits; ties are looked for only where some of them go."""
        for weight, found, left, lowest, most in zip(
            self.weights, self.keys, self.left, threshold.tolist(), room.tolist(), strict=True
        ):
            kept = found >= lowest
            if int((left == lowest).sum()) > most:
                ties = (found == lowest).flatten().nonzero()[:, 0]
                kept.view(-1)[ties[most:]] = False
            # As floats NaN times 0 would be NaN, and a negative number times 0 would be -0.
            weight.view(found.dtype).mul_(kept)
