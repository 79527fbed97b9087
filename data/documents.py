"""What a corpus yields: documents, and a count of what was left out and why."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import DataError

EXAMPLES_KEPT = 5


@dataclass(frozen=True)
class Document:
    """One text.

    `group` is what a split may never cut through (a package, or the document itself).
    `side` holds one integer per UTF-8 byte of `text` for every side channel of the corpus.
    """

    name: str
    group: str
    text: str
    side: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass
class LeftOut:
    """How many sources were left out, by reason, with the first few names of each."""

    reasons: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        entry = self.reasons.setdefault(reason, {"count": 0, "examples": []})
        entry["count"] += 1
        if len(entry["examples"]) < EXAMPLES_KEPT:
            entry["examples"].append(name)

    @property
    def total(self) -> int:
        return sum(entry["count"] for entry in self.reasons.values())

    def sentence(self) -> str:
        """Such as `3 binary, 1 not UTF-8`; empty when nothing was left out."""
        return ", ".join(f"{entry['count']} {reason}" for reason, entry in self.reasons.items())


def text_hash(text: str) -> str:
    """SHA-256 of a text, as hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def plain_name(path: Path) -> str:
    """The path with `/` between its parts and `\\xNN` for bytes of a name that are not UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", errors="backslashreplace")


def readable_text(path: Path, name: str, left_out: LeftOut) -> str | None:
    """The file's text, byte for byte (no newline translation), or None once it is counted."""
    try:
        raw = path.read_bytes()
    except PermissionError:
        left_out.add("without permission", name)
        return None
    except FileNotFoundError:
        left_out.add("broken links", name)
        return None
    return text_of(raw, name, left_out)


def text_of(raw: bytes, name: str, left_out: LeftOut) -> str | None:
    """The text that bytes are in UTF-8, or None once it is counted."""
    if b"\0" in raw:
        left_out.add("binary", name)
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        left_out.add("not UTF-8", name)
        return None


def usable(documents: Iterator[Document], left_out: LeftOut) -> Iterator[Document]:
    """The documents that hold text which has a UTF-8 form; the others are counted."""
    for document in documents:
        if not document.text.strip():
            left_out.add("empty", document.name)
        elif not document.text.isascii() and _has_surrogate(document.text):
            left_out.add("not valid Unicode", document.name)
        else:
            yield document


def _has_surrogate(text: str) -> bool:
    # JSON may hold half of a surrogate pair, which no UTF-8 text can.
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def existing_path(path: str, *, field_name: str) -> Path:
    """The absolute path of a user's file or folder; DataError names the field when there is none."""
    if not path:
        raise DataError(f"{field_name} is empty: give the path of a file or a folder")
    found = Path(path).expanduser().resolve()
    try:
        exists = found.exists()
    except PermissionError:
        raise DataError(f"{field_name}={path!r} cannot be read: permission denied") from None
    if not exists:
        raise DataError(
            f"{field_name}={path!r} does not exist: give the path of a file or a folder"
        )
    return found


def listing_of(root: Path, paths: Iterator[Path] | list[Path]) -> list[str]:
    """One line a file (name, size, time of change): what tells cheaply that nothing changed."""
    return [str(root), *(_listing_line(root, path) for path in paths)]


def _listing_line(root: Path, path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return f"{path.relative_to(root)} unreadable"
    return f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}"
