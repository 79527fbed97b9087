"""Modules of a user's own, which a setting or an option names."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


def users_module(name: str) -> ModuleType:
    """A module that is installed or lies in the working folder; whatever importing it raises."""
    with _working_folder_last():
        return importlib.import_module(name)


@contextmanager
def _working_folder_last() -> Iterator[None]:
    """Let modules of the working folder be found, and hide none that is installed."""
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before
