"""Jobs for another process: functions that it can import."""

import os
import time
from pathlib import Path

from pellucid.eval.score import NoValue


def process() -> int:
    """Which process does this job."""
    return os.getpid()


def waiting(path: Path) -> int:
    """Wait until another job has been done, which nobody does while this one is at it."""
    until = time.monotonic() + 120
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(path)
        time.sleep(0.01)
    return os.getpid()


def touched(path: Path) -> int:
    """Be done where others wait for it."""
    path.touch()
    return os.getpid()


def raising(reason: str) -> None:
    raise NoValue(reason)


def lasting() -> None:
    """Say which process is at it, and take ten minutes."""
    print(os.getpid(), flush=True)
    time.sleep(600)


def fatal(parent: int) -> str:
    """End any other process than the one that asks."""
    if os.getpid() != parent:
        os._exit(1)
    return "done here"


def unsendable() -> object:
    """Something that cannot be sent between processes."""
    return lambda: None
