"""A pinned list of wheels: what it names, where they lie, and fetching those that are missing.

A line is what pip reads, `name==version --hash=sha256:…`, and behind a `#` the wheel's file name,
its license, its bytes and those of the source in it.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pellucid.data.store import file_sha256
from pellucid.errors import DataError
from pellucid.storage import files

LINE = re.compile(
    r"(?P<project>[\w.-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})"
    r"  # (?P<file>\S+\.whl), (?P<license>[\w.+ -]+), (?P<size>\d+) bytes, (?P<source>\d+) of source"
)
AT_ONCE = 16
"""Wheels that one call of pip fetches: what it has fetched stays when the next one fails."""
ANYWHERE = (
    *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
    *("--platform", "any", "--implementation", "py", "--abi", "none", "--python-version", "3.12"),
)
"""pip's words for: these very files, the same on every machine, and no code of them is run."""


@dataclass(frozen=True)
class Wheel:
    """One line of the list."""

    project: str
    version: str
    sha256: str
    file: str
    license: str
    size: int
    """bytes of the wheel"""
    source: int
    """bytes of Python source in it that are of the corpus"""

    @property
    def requirement(self) -> str:
        """The line as pip wants it."""
        return f"{self.project}=={self.version} --hash=sha256:{self.sha256}"

    @property
    def line(self) -> str:
        """The line as it stands in a list."""
        about = f"{self.file}, {self.license}, {self.size} bytes, {self.source} of source"
        return f"{self.requirement}  # {about}"


def read_list(path: Path) -> list[Wheel]:
    """The wheels of a list; DataError names the line that is none, or that repeats a project."""
    with files.explained(DataError, f"read {path}"):
        lines = path.read_text(encoding="utf-8").splitlines()
    wheels: dict[str, Wheel] = {}
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if found is None or found["project"] in wheels:
            what = "names a project again" if found else "is not `name==version --hash=… # file, …`"
            raise DataError(f"{path}, line {number}, {what}: {line[:60]!r}")
        told = found.groupdict()
        sizes = {"size": int(told.pop("size")), "source": int(told.pop("source"))}
        wheels[told["project"]] = Wheel(**told, **sizes)
    return list(wheels.values())


def present(wheels: Sequence[Wheel], folder: Path) -> list[Wheel]:
    """Those of the wheels that lie in a folder; DataError where one is not what was pinned."""
    there = [wheel for wheel in wheels if (folder / wheel.file).is_file()]
    for wheel in there:
        if file_sha256(folder / wheel.file) != wheel.sha256:
            raise DataError(
                f"{folder / wheel.file} is not the wheel that was pinned (its SHA-256 differs): "
                f"delete it, and it is fetched again"
            )
    return there


def fetch(wheels: Sequence[Wheel], folder: Path) -> None:
    """Fetch those of the wheels that the folder lacks; DataError where pip cannot."""
    there = set(present(wheels, folder))
    missing = [wheel for wheel in wheels if wheel not in there]
    with files.explained(DataError, f"create {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(missing), AT_ONCE):
        _fetch(missing[start : start + AT_ONCE], folder)
    if lost := set(missing) - set(present(missing, folder)):
        raise DataError(f"pip fetched no {min(wheel.file for wheel in lost)} into {folder}")


def _fetch(wheels: Sequence[Wheel], folder: Path) -> None:
    """One call of pip, into a folder of its own, from which whole files are moved."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".half-") as half:
        wanted = Path(half) / "wanted.txt"
        wanted.write_text("".join(f"{wheel.requirement}\n" for wheel in wheels), encoding="utf-8")
        words = ["-m", "pip", "--disable-pip-version-check", "--quiet", "download", *ANYWHERE]
        words += ["--dest", half, "--requirement", str(wanted)]
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = (said or done.stderr.strip().splitlines() or ["no reason was given"])[-1]
            raise DataError(
                f"pip could not fetch the wheels of the corpus ({wheels[0].file} …): {reason}; "
                f"without a network, give data.path a folder that holds them"
            )
        for wheel in wheels:
            if (Path(half) / wheel.file).exists():
                (Path(half) / wheel.file).replace(folder / wheel.file)
