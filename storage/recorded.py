"""Activations recorded to disk once, and read from there as memory maps."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.errors import RunError
from pellucid.models import Activations, record
from pellucid.storage import files

# Tokens of one pass: enough to keep the machine busy, little enough to fit beside anything.
CHUNK_TOKENS = 4096
_ABOUT = "cache.json"
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class CachedActivations:
    """What one site did, on disk: as `Activations`, but read when it is indexed.

    `values` is float32 `(batch, token, unit)`, or `(batch, token, slot)` with int32 `indices`, or
    `(batch, head, query, key)`. `cached[rows]` gives the `Activations` of a slice of the batch.
    """

    values: np.memmap
    indices: np.memmap | None
    n_units: int

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> Activations:
        indices = None if self.indices is None else _tensor(self.indices[rows])
        return Activations(_tensor(self.values[rows]), indices, self.n_units)

    def chunks(self, rows: int = 32) -> Iterator[Activations]:
        """All of them in order, `rows` of the batch at a time."""
        return (self[start : start + rows] for start in range(0, len(self), rows))


def cached(
    model: nn.Module, sites: Iterable[str] | str, tokens: Tensor, root: Path, *, step: int
) -> dict[str, CachedActivations]:
    """`{site: CachedActivations}` from a folder below `root`, recorded first where it is not there.

    The folder's name is a hash of sites, tokens, step and weights. It is published whole.
    """
    names = list(dict.fromkeys([sites] if isinstance(sites, str) else sites))
    with record(model, names):  # raises UnknownSite before anything is written
        _check(model, names, tokens)
    folder = root / _key(model, names, tokens, step)
    if (found := _opened(folder, names)) is not None:
        return found
    with files.explained(RunError, f"write {folder}", after="what was cached before is intact"):
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        _publish(model, names, tokens, folder)
    return _opened(folder, names)


def _check(model: nn.Module, names: list[str], tokens: Tensor) -> None:
    whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    if tokens.ndim != 2 or not whole or not tokens.numel():
        found = f"{str(tokens.dtype).removeprefix('torch.')} {tuple(tokens.shape)}"
        raise RunError(f"tokens are {found}: expected integers (batch, token), at least one")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= model.vocab_size:
        raise RunError(f"tokens go from {low} to {high}: expected 0 to {model.vocab_size - 1}")
    if edited := [name for name, site in model.sites().items() if site.state.edits]:
        raise RunError(f"cache() inside intervene() on {edited[0]}: use record() in that block")


def _key(model: nn.Module, names: list[str], tokens: Tensor, step: int) -> str:
    about = {"format": 1, "sites": sorted(names), "shape": list(tokens.shape), "step": step}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update(_bytes(tokens.long()))
    # A notebook may change the weights of the model it loaded; the step alone would not tell.
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:32]


def _opened(folder: Path, names: list[str]) -> dict[str, CachedActivations] | None:
    """The maps of a published folder; None where there is none, or where it is damaged."""
    try:
        about = files.parse((folder / _ABOUT).read_bytes(), folder / _ABOUT, RunError)
        return {name: _map(folder, name, **about[name]) for name in names}
    except (OSError, RunError, KeyError, TypeError, ValueError):
        return None


def _map(folder: Path, name: str, *, n_units: int, sparse: bool) -> CachedActivations:
    def array(what: str) -> np.memmap:
        return np.load(folder / f"{name}.{what}.npy", mmap_mode="r", allow_pickle=False)

    return CachedActivations(array("values"), array("indices") if sparse else None, n_units)


def _publish(model: nn.Module, names: list[str], tokens: Tensor, folder: Path) -> None:
    temp = folder.with_name(f".tmp-{os.getpid()}-{folder.name}")
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    try:
        about = _record(model, names, tokens, temp)
        files.write(temp / _ABOUT, files.dump(about, _ABOUT, RunError))
        files.sync(temp)
        if folder.exists() and _opened(folder, names) is None:
            files.discard(folder)
        # Another process may have published the same meanwhile: then its folder is as good.
        if not folder.exists():
            temp.replace(folder)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    files.sync(folder.parent)


def _record(model: nn.Module, names: list[str], tokens: Tensor, temp: Path) -> dict[str, dict]:
    """Run the model on a few rows at a time and append what the sites did to files."""
    writers = {name: _SiteWriter(temp, name, len(tokens)) for name in names}
    rows = max(1, CHUNK_TOKENS // tokens.shape[1])
    device = next(model.parameters()).device
    try:
        with _evaluating(model), torch.no_grad(), record(model, names) as trace:
            for chunk in tokens.long().split(rows):
                model(chunk.to(device))
                for name, writer in writers.items():
                    writer.append(trace[name])
        return {name: writer.close() for name, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.drop()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


class _SiteWriter:
    """The files of one site."""

    def __init__(self, folder: Path, name: str, rows: int):
        self.values = _ArrayWriter(folder / f"{name}.values.npy", rows, np.float32, empty=0)
        self.indices = _ArrayWriter(folder / f"{name}.indices.npy", rows, np.int32, empty=-1)
        self.about: dict = {}

    def append(self, acts: Activations) -> None:
        self.about = {"n_units": acts.n_units, "sparse": acts.indices is not None}
        self.values.append(acts.values.float().cpu().numpy())
        if acts.indices is not None:
            self.indices.append(acts.indices.cpu().numpy())

    def close(self) -> dict:
        self.values.close()
        self.indices.close()
        return self.about

    def drop(self) -> None:
        """Let go of the files, whatever became of them."""
        self.values.drop()
        self.indices.drop()


class _ArrayWriter:
    """A .npy file of `rows` rows, appended to; its last axis widens when a chunk has more slots.

    Written, not memory-mapped: a full disk is then an error and not a signal that kills.
    """

    def __init__(self, path: Path, rows: int, dtype: type, *, empty: int):
        self.path, self.rows, self.dtype, self.empty = path, rows, np.dtype(dtype), empty
        self.shape: tuple[int, ...] = ()
        self.file: BinaryIO | None = None

    def append(self, chunk: np.ndarray) -> None:
        if self.file is None:
            self._begin(chunk.shape[1:])
        elif chunk.shape[-1] > self.shape[-1]:
            self._widen(chunk.shape[-1])
        self._put(chunk)

    def close(self) -> None:
        if self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()

    def drop(self) -> None:
        # What is still buffered may not fit the disk either: the error has been raised already.
        if self.file is not None and not self.file.closed:
            with suppress(OSError):
                self.file.close()

    def _begin(self, shape: tuple[int, ...]) -> None:
        self.shape, self.file = shape, self.path.open("xb")
        head = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *shape)}
        np.lib.format.write_array_header_1_0(self.file, head)

    def _put(self, chunk: np.ndarray) -> None:
        missing = self.shape[-1] - chunk.shape[-1]
        widths = [(0, 0)] * (chunk.ndim - 1) + [(0, missing)]
        chunk = np.pad(chunk, widths, constant_values=self.empty) if missing else chunk
        self.file.write(np.ascontiguousarray(chunk, dtype=self.dtype).data)

    def _widen(self, slots: int) -> None:
        narrow, shape = self.path.with_suffix(".narrow"), self.shape
        self.file.close()
        self.path.replace(narrow)
        self._begin((*shape[:-1], slots))
        with narrow.open("rb") as old:
            np.lib.format.read_magic(old)
            np.lib.format.read_array_header_1_0(old)
            while row := old.read(int(np.prod(shape)) * self.dtype.itemsize):
                self._put(np.frombuffer(row, self.dtype).reshape(1, *shape))
        narrow.unlink()


def _sweep(root: Path) -> None:
    """Delete what killed recordings left; younger folders may be another process's at work."""
    for left in (*root.glob(".tmp-*"), *root.glob(".old-*")):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor of its own: a memory map is read-only and ends with its file."""
    return torch.from_numpy(np.array(array))
