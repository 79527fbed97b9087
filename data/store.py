"""Prepared tokens on disk: memory maps, what they were made from, and proof that they are whole.

A folder holds, for each split, `tokens-SPLIT.bin` (raw uint16 or uint32), `offsets-SPLIT.npy`,
`bytes-SPLIT.npy`, `documents-SPLIT.json` and `side-CHANNEL-SPLIT.npy`; and `tokenizer.json` and
`manifest.json`, which lists every file with its size and SHA-256.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.data.rows import Batch, Windows
from pellucid.data.splits import SPLITS
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import DataError
from pellucid.storage import files

FORMAT = 1
MANIFEST = "manifest.json"
LARGEST_MANIFEST = 2**24
# Files up to this size are read and hashed whenever the folder is opened (the default corpus: all
# of them, in 20 ms); larger ones are known by their size, and by `verify()`.
HASHED_AT_OPEN = 2**26


def digest(obj: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    canonical = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_fingerprint(entries: dict[str, dict[str, Any]]) -> str:
    """What the data is: 32 hex digits over the content of every file, whatever it was built from."""
    content = {name: entry["sha256"] for name, entry in entries.items()}
    return digest({"format": FORMAT, "files": content})[:32]


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with its own hash, which `read_manifest` checks."""
    return manifest | {"sha256": digest(manifest)}


@dataclass(frozen=True)
class Split:
    """One split of a corpus. Document i is `tokens[offsets[i]:offsets[i + 1]]`, its eot first."""

    folder: Path
    name: str
    dtype: str
    channels: tuple[str, ...]

    @cached_property
    def tokens(self) -> np.memmap:
        """(n_tokens,) uint16 or uint32."""
        return np.memmap(self.folder / f"tokens-{self.name}.bin", dtype=self.dtype, mode="r")

    @cached_property
    def offsets(self) -> np.ndarray:
        """(n_documents + 1,) int64."""
        return self._array(f"offsets-{self.name}.npy")

    @cached_property
    def doc_bytes(self) -> np.ndarray:
        """The UTF-8 length of each document (n_documents,), int64."""
        return self._array(f"bytes-{self.name}.npy")

    @cached_property
    def names(self) -> list[str]:
        return self._documents["names"]

    @cached_property
    def groups(self) -> list[str]:
        """What each document was split by: its package, or itself."""
        return self._documents["groups"]

    @cached_property
    def side(self) -> dict[str, np.ndarray]:
        """{channel: (n_tokens,) int32}: a token's label is that of its last byte; -1 at eot."""
        return {
            channel: self._array(f"side-{channel}-{self.name}.npy") for channel in self.channels
        }

    @cached_property
    def _documents(self) -> dict[str, list[str]]:
        return json.loads((self.folder / f"documents-{self.name}.json").read_text(encoding="utf-8"))

    def _array(self, name: str) -> np.ndarray:
        return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)


class TokenData:
    """Prepared tokens, opened: `TokenData(folder)` raises DataError when anything is damaged.

    `manifest` replaces the folder's own where the same content came of another corpus.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        own = read_manifest(self.folder / MANIFEST)
        check_files(self.folder, own, largest=HASHED_AT_OPEN)
        self.manifest = manifest or own
        self.fingerprint: str = self.manifest["fingerprint"]
        self.tokenizer = Tokenizer.load(self.folder / "tokenizer.json", checked=True)
        self.vocab_size = self.tokenizer.vocab_size
        channels = tuple(self.manifest["side_channels"])
        dtype = self.manifest["token_dtype"]
        self._splits = {name: Split(self.folder, name, dtype, channels) for name in SPLITS}

    def split(self, name: str) -> Split:
        if name not in self._splits:
            raise DataError(f"split {name!r} is unknown: choose one of {', '.join(SPLITS)}")
        return self._splits[name]

    def verify(self) -> None:
        """Hash every file, however large; DataError names the first that is damaged."""
        check_files(self.folder, self.manifest, largest=None)

    def rows(
        self, seed: int, step: int, *, batch: int, context: int, split: str = "train"
    ) -> Batch:
        """The `batch` rows of `context`+1 tokens of one step, of all ranks together.

        Rows are windows drawn without replacement within an epoch, in an order and from a phase
        that are pure functions of (seed, epoch); a batch may straddle two epochs.
        DataError when the split is shorter than one row.
        """
        source = self.split(split)
        windows = Windows.of(len(source.tokens), context, split)
        starts = windows.starts(seed, step * batch, batch)
        index = starts[:, None] + np.arange(context + 1)
        doc_id = np.searchsorted(source.offsets, index, side="right") - 1
        side = {name: _long(np.asarray(labels)[index]) for name, labels in source.side.items()}
        return Batch(_long(np.asarray(source.tokens)[index]), _long(doc_id), side)


def _long(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file; DataError when it is missing, damaged, or of another format."""
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise DataError(f"{path} is damaged: it is larger than {LARGEST_MANIFEST} bytes")
        raw = path.read_bytes()
        manifest = json.loads(raw)
    except FileNotFoundError:
        raise DataError(f"{path.parent} holds no prepared tokens: {path.name} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise DataError(f"{path} is damaged: it is not JSON") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path} is not of format {FORMAT}, the only one this version reads")
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    exact = raw == files.dump(manifest, path.name, DataError)
    if not exact or digest(content) != manifest.get("sha256"):
        raise DataError(f"{path} is damaged: it does not match its own SHA-256")
    return manifest


def check_files(folder: Path, manifest: dict[str, Any], *, largest: int | None) -> None:
    """DataError unless every file has its size and, up to `largest` bytes (None: any), its hash."""
    for name, entry in manifest["files"].items():
        path = folder / name
        if Path(name).name != name:
            raise DataError(f"{folder / MANIFEST} is damaged: {name!r} is not a plain file name")
        size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes"
            raise DataError(f"{path} is damaged: it {found} instead of {entry['bytes']} bytes")
        if (largest is None or size <= largest) and file_sha256(path) != entry["sha256"]:
            raise DataError(f"{path} is damaged: its content does not match its SHA-256")
