"""The code of a grid: what its first runner was made of, and all its cells run."""

import os
import shutil
from pathlib import Path

import pellucid
from pellucid.errors import RunError
from pellucid.storage import files, provenance

DATA = ("report/templates", "report/static", "report/vendor")
"""Folders of the package that hold other than Python."""
LISTS = ("data/pypi.txt",)


def take(place: Path) -> str:
    """Copy the package below `place` unless a copy is there; a sentence where that one differs."""
    source, target = Path(pellucid.__file__).resolve().parent, place / "pellucid"
    if not target.exists():
        with files.explained(RunError, f"copy the code to {target}"):
            _copy(source, place)
    if provenance.source_hash(target) == provenance.source_hash(source):
        return ""
    return f"cells run the code that the grid was begun with, in {target}, not today's"


def _copy(source: Path, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    half = place / f".half-{os.getpid()}"
    for file in provenance.sources(source):
        _put(file, half / file.relative_to(source))
    for folder in DATA:
        for file in sorted((source / folder).rglob("*")):
            if file.is_file():
                _put(file, half / file.relative_to(source))
    for name in LISTS:
        _put(source / name, half / name)
    try:
        half.replace(place / "pellucid")
    except OSError:
        # Another runner was first: its copy is as good, if it is one.
        shutil.rmtree(half)
        if not (place / "pellucid").is_dir():
            raise


def _put(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
