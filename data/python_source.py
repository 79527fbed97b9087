"""Python source that is already on the machine: the standard library, and what is installed."""

import os
import site
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pellucid.data.documents import (
    Document,
    LeftOut,
    existing_path,
    listing_of,
    plain_name,
    readable_text,
)
from pellucid.data.labels import LabeledConfig, channels, labeled
from pellucid.settings.fields import Configurable, setting

# Tables, tests, demonstrations and generated documentation are not code that anyone would read.
LEFT_OUT = {"idlelib", "lib2to3", "encodings", "turtledemo", "pydoc_data"}
INSTALLED = {"site-packages", "dist-packages"}
# Records of how this interpreter was built: they differ between machines of the same version.
BUILD_RECORDS = ("config-", "_sysconfigdata")


def standard_library() -> Path:
    """The folder of the running interpreter's standard library."""
    return Path(sysconfig.get_paths()["stdlib"]).resolve()


def installed_folders() -> list[Path]:
    """The folders that hold this interpreter's installed packages, without repeats."""
    paths = sysconfig.get_paths()
    folders = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
    return sorted({Path(folder).resolve() for folder in folders if Path(folder).is_dir()})


def python_files(root: Path, wanted: Callable[[str], bool]) -> list[Path]:
    """Every `.py` file beneath `root` all of whose path components are `wanted`, sorted by name."""
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if wanted(name)]
        found += [Path(folder, name) for name in files if name.endswith(".py") and wanted(name)]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def in_core(name: str) -> bool:
    """Whether a file of the standard library belongs to the corpus."""
    return not (name.startswith(("test", *BUILD_RECORDS)) or name in LEFT_OUT | INSTALLED)


def in_package(name: str) -> bool:
    """Whether a file of an installed package belongs to the corpus."""
    return not name.startswith("test") and name != "__pycache__"


def package_of(path: Path, root: Path) -> str:
    """The top-level package or module a file belongs to."""
    return plain_name(path.relative_to(root)).split("/")[0].removesuffix(".py")


def read_folder(root: Path, files: list[Path], prefix: str, out: LeftOut) -> Iterator[Document]:
    """The documents of a folder of Python source, in sorted order."""
    for path in files:
        name = prefix + plain_name(path.relative_to(root))
        text = readable_text(path, name, out)
        if text is not None:
            yield Document(name, package_of(path, root), text)


class PythonCore(Configurable):
    """The running interpreter's standard library without tests, tables and demonstrations.

    Document names are relative to the library; a group is a top-level package or module.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(LabeledConfig):
        pass

    def __init__(self, config: Config) -> None:
        self.config, self.side_channels = config, channels(config)
        self.left_out = LeftOut()
        self.root = standard_library()

    def files(self) -> list[Path]:
        return python_files(self.root, in_core)

    def listing(self) -> list[str]:
        return listing_of(self.root, self.files())

    def documents(self) -> Iterator[Document]:
        found = read_folder(self.root, self.files(), "", self.left_out)
        yield from labeled(found, self.config)


class PythonInstalled(PythonCore):
    """The standard library and every installed package: for size, not for comparison."""

    @dataclass(frozen=True, kw_only=True)
    class Config(PythonCore.Config):
        path: str = setting("")
        """A folder of packages to read instead of this interpreter's site-packages."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        given = [existing_path(config.path, field_name="data.path")] if config.path else []
        self.folders = given or installed_folders()

    def installed(self) -> Iterator[tuple[Path, list[Path]]]:
        for folder in self.folders:
            yield folder, python_files(folder, in_package)

    def listing(self) -> list[str]:
        lines = super().listing()
        for folder, files in self.installed():
            lines += listing_of(folder, files)
        return lines

    def documents(self) -> Iterator[Document]:
        yield from super().documents()
        for folder, files in self.installed():
            found = read_folder(folder, files, "site-packages/", self.left_out)
            yield from labeled(found, self.config)
