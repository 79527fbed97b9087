"""The list of the corpus `pypi`, made from a folder of wheels: `python -m … pypi_list FOLDER`.

    python -m pellucid.experiments.pypi_list FOLDER > data/pypi.txt

Refused are wheels that are not for any machine, and those whose metadata name no license that is
known to be permissive.
"""

import sys
import zipfile
from collections.abc import Sequence
from email.message import Message
from email.parser import Parser
from pathlib import Path

from pellucid.data.pypi import in_wheel
from pellucid.data.store import file_sha256
from pellucid.data.wheels import Wheel
from pellucid.errors import DataError

ANY_MACHINE = "-none-any.whl"
PERMISSIVE = {
    "MIT": ("mit", "mit license"),
    "Apache-2.0": (
        *("apache-2.0", "apache 2.0", "apache software license", "apache license 2.0", "apache"),
        *("apache license, version 2.0", "apache 2.0 license"),
    ),
    "BSD-3-Clause": ("bsd-3-clause", "bsd 3-clause license"),
    "BSD-2-Clause": ("bsd-2-clause",),
    "BSD": ("bsd license", "bsd"),
}
"""Licenses, by the words with which metadata name them."""


def license_of(metadata: Message) -> str | None:
    """The permissive license that a wheel's metadata name; None where there is none, or others."""
    expression = metadata.get("License-Expression", "")
    classifiers = [value for name, value in metadata.items() if name == "Classifier"]
    named = [c.split("::")[-1].strip() for c in classifiers if c.startswith("License ::")]
    said = [expression] if expression else named or [metadata.get("License", "")]
    known = {word: name for name, words in PERMISSIVE.items() for word in words}
    found = {known.get(word.strip().lower()) for word in said}
    return None if None in found or len(found) != 1 else found.pop()


def wheel_at(path: Path) -> Wheel:
    """What the list says of a wheel; DataError where it may not be in it."""
    if not path.name.endswith(ANY_MACHINE):
        raise DataError(f"{path.name} is not for any machine (…{ANY_MACHINE})")
    with zipfile.ZipFile(path) as archive:
        held = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(min(held, key=len)).decode("utf-8"))
        source = sum(m.file_size for m in archive.infolist() if in_wheel(m.filename))
    named = license_of(metadata)
    if named is None:
        raise DataError(f"{path.name} names no license that is known to be permissive")
    sizes = {"size": path.stat().st_size, "source": source}
    about = {"sha256": file_sha256(path), "file": path.name, "license": named}
    project = str(metadata["Name"]).lower().replace("_", "-").replace(".", "-")
    return Wheel(project, str(metadata["Version"]), **about, **sizes)


def lines(folder: Path) -> list[str]:
    """The list of a folder's wheels, by project."""
    wheels = sorted(map(wheel_at, folder.glob("*.whl")), key=lambda wheel: wheel.project)
    source = sum(wheel.source for wheel in wheels)
    head = (
        f"# {len(wheels)} wheels, {sum(w.size for w in wheels)} bytes, {source} of Python source."
    )
    return [head, *(wheel.line for wheel in wheels)]


def main(words: Sequence[str]) -> int:
    """Print the list of a folder."""
    print("\n".join(lines(Path(words[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
