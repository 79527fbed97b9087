"""Python source of well-known packages: a pinned list of wheels, the same on every machine."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pellucid.data.documents import Document, LeftOut, existing_path, text_of
from pellucid.data.labels import LabeledConfig, channels, labeled
from pellucid.data.python_source import in_package
from pellucid.data.wheels import Wheel, fetch, present, read_list
from pellucid.errors import DataError
from pellucid.settings.fields import Configurable, setting

LIST = Path(__file__).with_name("pypi.txt")
"""The list that ships: permissive licenses, no compiled code."""


def in_wheel(name: str) -> bool:
    """Whether a member of a wheel is source of the corpus: no tests, no metadata, no scripts."""
    parts = name.split("/")
    if not name.endswith(".py") or parts[0].endswith((".dist-info", ".data")):
        return False
    return all(in_package(part) for part in parts)


class PyPI(Configurable):
    """The `.py` files of the listed wheels, tests left out, read where they are: no code is run.

    Wheels come in the order of the list, and files in that of their names. A group is a package,
    so that none is cut by a split.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(LabeledConfig):
        path: str = setting("")
        """A folder that holds the wheels; empty: they are fetched once, into the cache."""
        wheels: str = setting("")
        """A list of other wheels, as `experiments/pypi_list.py` writes it; empty: ours."""

    def __init__(self, config: Config) -> None:
        self.config, self.side_channels = config, channels(config)
        self.left_out = LeftOut()
        given = existing_path(config.wheels, field_name="data.wheels") if config.wheels else LIST
        self.wheels = read_list(given)
        self.given = existing_path(config.path, field_name="data.path") if config.path else None

    def listing(self) -> list[str]:
        """The pinned lines: nothing needs to be there to know what it would be."""
        return [wheel.requirement for wheel in self.wheels]

    def folder(self) -> Path:
        """Where all wheels are; DataError where one is missing, and cannot be fetched."""
        if self.given is None:
            from pellucid.data.cache import cache_folder

            folder = cache_folder().parent / "wheels"
            fetch(self.wheels, folder)
            return folder
        if missing := set(self.wheels) - set(present(self.wheels, self.given)):
            first = min(wheel.file for wheel in missing)
            raise DataError(
                f"data.path={self.config.path!r} lacks {len(missing)} of {len(self.wheels)} wheels, "
                f"such as {first}: without data.path they are fetched"
            )
        return self.given

    def documents(self) -> Iterator[Document]:
        yield from labeled(self._texts(), self.config)

    def _texts(self) -> Iterator[Document]:
        self.left_out.reasons.clear()
        folder = self.folder()
        for wheel in self.wheels:
            yield from self._read(wheel, folder / wheel.file)

    def _read(self, wheel: Wheel, path: Path) -> Iterator[Document]:
        try:
            with zipfile.ZipFile(path) as archive:
                for member in sorted(filter(in_wheel, archive.namelist())):
                    name = f"{wheel.project}/{member}"
                    text = text_of(archive.read(member), name, self.left_out)
                    if text is not None:
                        yield Document(name, wheel.project, text)
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(f"{path} cannot be read as a wheel: {error}") from None
