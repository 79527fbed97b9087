"""What was said of a text, piece by piece, as columns over its characters."""

import numpy as np
from jaxtyping import UInt64

HALF = 60


class Marking:
    """Pieces that lie end to end, each with the bits that hold after its characters."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.bits: list[int] = []

    def put(self, start: int, end: int, bits: int) -> None:
        """Say what holds after each character from `start`, where the last piece ended, to `end`."""
        self.ends.append(end)
        self.bits.append(bits)

    def halves(self, size: int) -> tuple[UInt64[np.ndarray, " character"], ...]:
        """The lower 60 bits after each character, and the others."""
        lengths = np.diff(np.array([0, *self.ends], dtype=np.int64))
        if lengths.sum() != size:
            raise ValueError(f"the pieces hold {lengths.sum()} characters, the text {size}")
        mask = (1 << HALF) - 1
        low = np.array([bits & mask for bits in self.bits], dtype=np.uint64)
        high = np.array([bits >> HALF for bits in self.bits], dtype=np.uint64)
        return np.repeat(low, lengths), np.repeat(high, lengths)
