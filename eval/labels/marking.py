"""What was said of a text, piece by piece, as columns over its characters."""

import numpy as np
from jaxtyping import UInt64

WORD = 64


class Marking:
    """Pieces that lie end to end, each with the bits that hold after its characters."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.bits: list[int] = []

    def put(self, start: int, end: int, bits: int) -> None:
        """Say what holds after each character from `start`, where the last piece ended, to `end`."""
        self.ends.append(end)
        self.bits.append(bits)

    def put_each(self, start: int, bits: list[int]) -> None:
        """Say what holds after each of the next characters."""
        self.ends += range(start + 1, start + 1 + len(bits))
        self.bits += bits

    def words(self, size: int, *, shift: int) -> UInt64[np.ndarray, "character word"]:
        """The bits after each character, moved up by `shift` and cut into two words of 64.

        ValueError unless the pieces hold `size` characters.
        """
        lengths = np.diff(np.array([0, *self.ends], dtype=np.int64))
        if lengths.sum() != size:
            raise ValueError(f"the pieces hold {lengths.sum()} characters, the text {size}")
        mask, rest = (1 << WORD - shift) - 1, WORD - shift
        low = np.array([bits & mask for bits in self.bits], dtype=np.uint64) << np.uint64(shift)
        high = np.array([bits >> rest for bits in self.bits], dtype=np.uint64)
        return np.repeat(np.stack([low, high], axis=1), lengths, axis=0)
