"""A file or a folder of the user's own: plain text of any kind, JSON lines, Parquet."""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pellucid.data.documents import (
    Document,
    LeftOut,
    existing_path,
    listing_of,
    plain_name,
    readable_text,
    text_hash,
)
from pellucid.data.labels import CHANNEL, LabeledConfig, channels, labeled, labels_by_name
from pellucid.errors import DataError
from pellucid.settings.fields import Configurable, setting
from pellucid.settings.kinds import shown

ROWS_PER_READ = 1024
# One or two plain files (a book) are cut into pieces, so that some of them can be held out.
FEW_FILES, PIECES_OF_A_FILE, SMALLEST_PIECE = 2, 200, 2048


class TextFiles(Configurable):
    """Every file beneath `path`: `.jsonl` and `.parquet` by row, everything else as one text.

    Where there are one or two files, a plain one is cut at line ends into up to 200 documents.
    Hidden files and folders are left alone.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(LabeledConfig):
        path: str = setting("")
        """The file or the folder to read."""
        text_field: str = setting("text")
        """The name of the field or column that holds the text of a `.jsonl` or `.parquet` row."""
        group: Literal["file", "folder"] = setting("file")
        """What a split never cuts through: a plain file, or all files of one top-level folder."""

    def __init__(self, config: Config) -> None:
        self.config, self.side_channels = config, channels(config)
        self.left_out = LeftOut()
        self.root = existing_path(config.path, field_name="data.path")

    def files(self) -> list[Path]:
        if not self.root.is_dir():
            return [self.root]
        found = []
        for folder, subfolders, names in os.walk(self.root, onerror=self._unreadable_folder):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            found += [Path(folder, name) for name in names if not name.startswith(".")]
        return sorted(found, key=self._name)

    def _unreadable_folder(self, error: OSError) -> None:
        if Path(error.filename) == self.root:
            raise DataError(f"data.path={self.config.path!r} cannot be read: {error.strerror}")
        self.left_out.add("without permission", self._name(Path(error.filename)))

    def _name(self, path: Path) -> str:
        return plain_name(path.relative_to(self.root.parent if path == self.root else self.root))

    def listing(self) -> list[str]:
        return listing_of(self.root.parent, self.files())

    def documents(self) -> Iterator[Document]:
        yield from labeled(self._texts(), self.config)

    def _texts(self) -> Iterator[Document]:
        self.left_out.reasons.clear()
        files = [path for path in self.files() if self._is_regular(path)]
        for path in files:
            if path.suffix == ".jsonl":
                yield from self._rows(path, json_lines(path, self._name(path), self.left_out))
            elif path.suffix == ".parquet":
                yield from self._rows(path, parquet_rows(path, self.config.text_field))
            else:
                yield from self._plain(path, few=len(files) <= FEW_FILES)

    def _is_regular(self, path: Path) -> bool:
        """Whether the path can be read to an end; a pipe, a socket, a broken link is counted."""
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except PermissionError:
            self.left_out.add("without permission", self._name(path))
            return False
        except OSError:
            regular = False
        if not regular:
            self.left_out.add("not a regular file", self._name(path))
        return regular

    def _plain(self, path: Path, *, few: bool) -> Iterator[Document]:
        name = self._name(path)
        text = readable_text(path, name, self.left_out)
        if text is None:
            return
        if few:
            # A piece alone does not tell what it is within: labels are those of the whole.
            side = {CHANNEL: labels_by_name(name, text)} if self.side_channels else {}
            yield from pieces(name, text, side)
            return
        folder = self.config.group == "folder"
        yield Document(name, name.split("/")[0] if folder else name, text)

    def _rows(self, path: Path, rows: Iterator[dict]) -> Iterator[Document]:
        name, text_field = self._name(path), self.config.text_field
        for number, row in enumerate(rows, start=1):
            if text_field not in row:
                known = ", ".join(map(repr, row)) or "none"
                raise DataError(
                    f"{path}, row {number}: there is no field data.text_field={text_field!r}; "
                    f"the fields are {known}"
                )
            yield from row_document(f"{name}#{number}", row[text_field], self.left_out)


def row_document(name: str, text: object, left_out: LeftOut) -> Iterator[Document]:
    """The document of one row, grouped by its own content; a row without text is counted."""
    if isinstance(text, str):
        yield Document(name, text_hash(text.encode(errors="replace").decode()), text)
    else:
        left_out.add("rows without text", name)


def pieces(name: str, text: str, side: Mapping[str, np.ndarray]) -> Iterator[Document]:
    """Documents of at least 2048 characters cut from one text, and its labels, at line ends."""
    size = max(SMALLEST_PIECE, len(text) // PIECES_OF_A_FILE)
    start = number = byte = 0
    while start < len(text):
        end = text.find("\n", start + size) + 1 or len(text)
        number += 1
        piece = f"{name}#{number:04d}"
        first, byte = byte, byte + len(text[start:end].encode())
        cut = {channel: labels[first:byte] for channel, labels in side.items()}
        yield Document(piece, piece, text[start:end], cut)
        start = end


def json_lines(path: Path, name: str, left_out: LeftOut) -> Iterator[dict]:
    """The objects of a JSON lines file; lines that are not UTF-8 are counted."""
    for number, line in enumerate(_lines(path, name, left_out), start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            left_out.add("rows not UTF-8", f"{name}, line {number}")
            continue
        if text.strip():
            yield _json_row(path, number, text)


def _lines(path: Path, name: str, left_out: LeftOut) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except PermissionError:
        left_out.add("without permission", name)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _json_row(path: Path, number: int, line: str) -> dict:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise DataError(
            f"{path}, line {number}: {reason}; every line has to be one JSON object"
        ) from None
    if not isinstance(row, dict):
        raise DataError(
            f"{path}, line {number}: the row {shown(row)} is not a JSON object; "
            "every line has to be one JSON object"
        )
    return row


def parquet_rows(path: Path, text_field: str) -> Iterator[dict]:
    """The text of each row of a parquet file."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns = [text_field] if text_field in names else names
            for batch in file.iter_batches(ROWS_PER_READ, columns=columns):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from None
