"""Labels of streams, kept beside the prepared tokens they belong to.

$PELLUCID_CACHE/tokens/labels/KEY.npz: the four tables of a stream, packed as bits. The key holds all
that they come of, so a file is never out of date; one that is damaged is made again. Files appear
whole, so that two processes which label the same stream at once only do the work twice.
"""

import hashlib
import io
import platform
import zipfile
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from pellucid.data import python_labels
from pellucid.data.cache import cache_folder
from pellucid.data.store import digest
from pellucid.eval.labels.source import Source
from pellucid.eval.labels.table import LabelTable
from pellucid.eval.stream import Stream
from pellucid.storage import files

TABLES = ("after", "before", "mixed", "valued")
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading a file raises that is not there, or is not what was written."""


@cache
def code_fingerprint() -> str:
    """Of the code that labels, and of the version of Python whose parser it asks."""
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(python_labels.__file__)]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return f"{platform.python_version()}-{code[:16]}"


def place(stream: Stream, source: Source, *, data: str, split: str) -> Path:
    """Where the labels of a source for a stream of a split of prepared data are kept."""
    documents = hashlib.sha256(np.asarray(stream.tokens, dtype=np.int64).tobytes())
    documents.update(np.asarray(stream.offsets, dtype=np.int64).tobytes())
    labels = [[one.name, one.group, one.family, one.prefix] for one in source.labels]
    known = [data, split, documents.hexdigest(), list(stream.names)]
    key = digest([*known, source.fingerprint, labels, code_fingerprint()])[:32]
    return cache_folder() / "labels" / f"{key}.npz"


def read(path: Path, source: Source, *, tokens: int) -> LabelTable | None:
    """The labels that are kept in a file; None where there are none, or where it is damaged."""
    # In memory, since numpy leaves a damaged file open.
    with suppress(*DAMAGED), np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
        return LabelTable(source.labels, *(_unpacked(kept[t], source, tokens) for t in TABLES))
    return None


def keep(path: Path, table: LabelTable) -> None:
    """Write labels where `read` finds them."""
    packed = {name: np.packbits(getattr(table, name), axis=1) for name in TABLES}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **packed)
    # Without a place to keep them, as in a cache that may only be read, labels are made each time.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, buffer.getvalue())


def _unpacked(packed: np.ndarray, source: Source, tokens: int) -> np.ndarray:
    n_labels = len(source.labels)
    if packed.dtype != np.uint8 or packed.shape != (tokens, -(-n_labels // 8)):
        raise ValueError(
            f"{packed.shape} {packed.dtype} are no {n_labels} labels of {tokens} tokens"
        )
    return np.unpackbits(packed, axis=1, count=n_labels).astype(bool)
