"""One writer at a time, by a lock that ends with its process, also after kill -9."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pellucid.errors import RunError
from pellucid.storage import files

# A lock lasts as long as any copy of its descriptor: children made by fork give theirs up, or a
# data worker that outlives a killed trainer would keep the folder locked.
_held: set[int] = set()


class InUseError(RunError):
    """Another process holds a lock."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; raises InUseError, naming process and host, while another does.

    RunError: the file cannot be locked by anyone.
    """
    with files.explained(RunError, f"lock {path.parent}"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(descriptor)
    try:
        _take(descriptor, path)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    with files.explained(RunError, f"lock {path.parent}"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise InUseError(
                f"{path.parent} is in use by {holder or 'another process'}: "
                "wait for it to end, or give another folder"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _give_up_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_give_up_in_child)
