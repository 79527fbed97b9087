"""Large files of a token folder, written piece by piece and pushed to the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new binary file, flushed to the disk when the block ends."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_array(path: Path, values: np.ndarray) -> None:
    """Write an array as `.npy`, without pickle, to the disk."""
    with new_file(path) as file:
        np.save(file, values, allow_pickle=False)
