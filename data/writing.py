"""Files of a token folder, written so that what is there is whole and on the disk."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new binary file, flushed to the disk when the block ends."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_array(path: Path, values: np.ndarray) -> None:
    with new_file(path) as file:
        np.save(file, values, allow_pickle=False)


def write_json(path: Path, value: Any) -> None:
    with new_file(path) as file:
        file.write(json.dumps(value, ensure_ascii=True, indent=1).encode())


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder as durable as the files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
