"""Folders that are whole or not there: files under a manifest that holds their sizes and SHA-256.

Order of a publication: every file is written and pushed to the disk under a hidden name, the
manifest last, then the folder, then the rename that publishes it, then the parent. A kill at any
moment leaves either no folder of that name or a whole one.
"""

import errno
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pellucid.errors import CheckpointError
from pellucid.storage import files

FORMAT = 1
MANIFEST = "manifest.json"
# A larger one is not ours: names and hashes of a few files take kilobytes.
_MAX_MANIFEST = 2**22
# What object and FUSE mounts answer to the rename of a folder.
_RENAME_REFUSED = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV)


def publish(final: Path, contents: Iterable[tuple[str, bytes]], about: dict[str, Any]) -> None:
    """Write `contents` (name, bytes) and a manifest that also says `about`, all or nothing.

    A folder that is there under the same name is replaced. Raises OSError, and leaves no trace.
    """
    temp = final.with_name(f".tmp-{final.name}")
    try:
        temp.mkdir()
        _write(temp, contents, about)
        if final.exists():
            files.discard(final)
        _rename(temp, final)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    files.sync(final.parent)


def manifest(path: Path) -> dict[str, Any]:
    """The manifest of a folder, once it matches its own hash and the names in the folder.

    Raises CheckpointError, naming the file. The files it names are not read: see `verify`, `read`.
    """
    file = path / MANIFEST
    with files.explained(CheckpointError, f"read {file}"), file.open("rb") as stream:
        data = stream.read(_MAX_MANIFEST + 1)
    found = files.parse(data[:_MAX_MANIFEST], file, CheckpointError)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CheckpointError(f"{file} is not the manifest of a checkpoint of format {FORMAT}")
    unsigned = {key: value for key, value in found.items() if key != "sha256"}
    if data != _signed(unsigned):
        raise CheckpointError(f"{file} is damaged: it does not match its own SHA-256")
    _check_entries(file, unsigned.get("files"))
    return unsigned


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a folder all of whose files are as written, else CheckpointError."""
    found = manifest(path)
    for name, entry in found["files"].items():
        with _opened(path / name, entry) as stream:
            _check_digest(path / name, hashlib.file_digest(stream, "sha256"), entry)
    return found


def is_whole(path: Path) -> bool:
    """Whether `verify` accepts the folder."""
    try:
        return bool(verify(path))
    except CheckpointError:
        return False


def read(file: Path, entry: dict[str, Any]) -> bytes:
    """The bytes of a file, read once: those that are checked are those that the caller parses."""
    with _opened(file, entry) as stream:
        data = stream.read(entry["size"])
    _check_digest(file, hashlib.sha256(data), entry)
    return data


def _write(temp: Path, contents: Iterable[tuple[str, bytes]], about: dict[str, Any]) -> None:
    entries = {}
    for name, data in contents:
        files.write(temp / name, data)
        entries[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    files.write(temp / MANIFEST, _signed(about | {"format": FORMAT, "files": entries}))
    files.sync(temp)


def _rename(temp: Path, final: Path) -> None:
    try:
        temp.replace(final)
    except OSError as problem:
        if problem.errno not in _RENAME_REFUSED:
            raise
        _copy(temp, final)


def _copy(temp: Path, final: Path) -> None:
    """Publish where folders cannot be renamed: the manifest, last, is the mark of completeness."""
    final.mkdir()
    for file in sorted(temp.iterdir(), key=lambda file: file.name == MANIFEST):
        files.write(final / file.name, file.read_bytes())
    files.sync(final)
    shutil.rmtree(temp)


def _signed(unsigned: dict[str, Any]) -> bytes:
    """Manifest bytes with their own SHA-256 in them, in the one form that `manifest` accepts."""
    digest = hashlib.sha256(files.dump(unsigned, MANIFEST, CheckpointError)).hexdigest()
    return files.dump(unsigned | {"sha256": digest}, MANIFEST, CheckpointError)


def _check_entries(file: Path, entries: Any) -> None:
    """Refuse names that lead out of the folder, and files that the manifest does not name."""
    if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
        raise CheckpointError(f"{file} does not give a size and a SHA-256 for each of its files")
    for name in entries:
        if name != Path(name).name or name.startswith(".") or "\\" in name or "\0" in name:
            raise CheckpointError(f"{file} names {name!r}: not a plain file name")
    there = {entry.name for entry in file.parent.iterdir() if not entry.name.startswith(".")}
    if extra := sorted(there - entries.keys() - {MANIFEST}):
        raise CheckpointError(f"{file.parent} holds {extra[0]}, which its manifest does not name")


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"size", "sha256"}
        and type(entry["size"]) is int
        and isinstance(entry["sha256"], str)
    )


@contextmanager
def _opened(file: Path, entry: dict[str, Any]) -> Iterator[BinaryIO]:
    """The file, open, once it is seen to be a regular one of the size its manifest gives."""
    with files.explained(CheckpointError, f"read {file}"):
        if not file.is_file():
            raise CheckpointError(f"{file} is missing")
        if (size := file.stat().st_size) != entry["size"]:
            raise CheckpointError(
                f"{file} is damaged: {size} bytes where {entry['size']} were written"
            )
        with file.open("rb") as stream:
            yield stream


def _check_digest(file: Path, digest: Any, entry: dict[str, Any]) -> None:
    if digest.hexdigest() != entry["sha256"]:
        raise CheckpointError(f"{file} is damaged: it does not match the SHA-256 in its manifest")
