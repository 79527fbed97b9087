"""Any Hugging Face dataset, by its name on the Hub or by the path of a local copy."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.data.documents import Document, LeftOut, listing_of
from pellucid.data.text_files import row_document
from pellucid.errors import DataError
from pellucid.settings.fields import Config, Configurable, setting


class HubDataset(Configurable):
    """The rows of one split of a dataset, read through `datasets`; a row is its own group."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        name: str = setting("")
        """The dataset's name on the Hub (`roneneldan/TinyStories`) or a local folder."""
        config: str = setting("")
        """The name of the dataset's configuration, where it has several."""
        split: str = setting("train")
        """The split to read; it is split again into train, val and test."""
        revision: str = setting("")
        """The commit or tag to read; empty reads the newest."""
        text_field: str = setting("text")
        """The name of the column that holds the text."""
        n_documents: int = setting(0, low=0)
        """How many rows to read from the start; 0 reads all of them."""
        streaming: bool = setting(True)
        """Read row by row instead of downloading the whole dataset first."""

    side_channels: tuple[str, ...] = ()

    def __init__(self, config: Config) -> None:
        if not config.name:
            raise DataError("data.name is empty: give a dataset's name on the Hub or a folder")
        self.config = config
        self.left_out = LeftOut()

    def listing(self) -> list[str]:
        """Of a local copy its files; a dataset on the Hub is known by its name and revision."""
        root = Path(self.config.name).expanduser()
        if not root.is_dir():
            return []
        return listing_of(
            root.resolve(), sorted(p for p in root.resolve().rglob("*") if p.is_file())
        )

    def documents(self) -> Iterator[Document]:
        rows = iter(self._dataset())
        for number in itertools.count():
            if self.config.n_documents and number == self.config.n_documents:
                return
            row = self._next(rows)
            if row is None:
                return
            yield from row_document(f"row {number}", self._text(row), self.left_out)

    def _text(self, row: dict[str, Any]) -> Any:
        if self.config.text_field not in row:
            known = ", ".join(map(repr, row))
            raise DataError(
                f"dataset {self.config.name!r} has no column data.text_field="
                f"{self.config.text_field!r}; its columns are {known}"
            )
        return row[self.config.text_field]

    def _next(self, rows: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
        try:
            return next(rows, None)
        except OSError as error:
            raise DataError(f"reading dataset {self.config.name!r} broke off: {error}") from None

    def _dataset(self) -> Any:
        c = self.config
        try:
            return open_dataset(c)
        except (OSError, ValueError, RuntimeError) as error:
            kind = "is not there" if isinstance(error, FileNotFoundError) else "cannot be opened"
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise DataError(
                f"dataset data.name={c.name!r} (config {c.config!r}, split {c.split!r}) {kind}: "
                f"{reason}; without a network give a local folder or a dataset already downloaded"
            ) from None


def open_dataset(config: HubDataset.Config) -> Any:
    """The dataset `config` names. No code that comes with a dataset is ever run."""
    import datasets

    root = Path(config.name).expanduser()
    if (root / "state.json").is_file() or (root / "dataset_dict.json").is_file():
        saved = datasets.load_from_disk(root)
        if not isinstance(saved, datasets.DatasetDict):
            return saved
        if config.split not in saved:
            raise ValueError(f"the folder holds the splits {', '.join(saved)}")
        return saved[config.split]
    return datasets.load_dataset(
        config.name,
        config.config or None,
        split=config.split,
        revision=config.revision or None,
        streaming=config.streaming,
    )
