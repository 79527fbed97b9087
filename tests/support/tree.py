"""The files of this project, as the tests of its style and its packaging see them."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_SHIPPED = {"tests", "build", "dist", "runs", "docs", "node_modules"}


def settings() -> dict:
    """The whole of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def shipped_folders() -> list[Path]:
    """The folders of the package: the root, and those below it that hold an `__init__.py`."""
    found, waiting = [], [ROOT]
    while waiting:
        folder = waiting.pop()
        found.append(folder)
        waiting += [
            child
            for child in folder.iterdir()
            if (child / "__init__.py").exists() and child.name not in NOT_SHIPPED
            if not child.name.startswith(".")
        ]
    return sorted(found)


def shipped_modules() -> list[Path]:
    """Every Python file of the package."""
    return sorted(path for folder in shipped_folders() for path in folder.glob("*.py"))
