"""A folder for what an evaluation keeps on disk, removed once nothing refers to it."""

import shutil
import tempfile
import weakref
from pathlib import Path


class Scratch:
    """A temporary folder. Sent to another process it is a path: the process that made it removes it.

    What another process leaves there, also one that was killed, is removed with the rest.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pellucid-harvest-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Remove it now."""
        self._remove()

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}
