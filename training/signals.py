"""SIGTERM, SIGUSR1 and SIGINT ask the run to save and stop; a second signal ends it at once."""

import ctypes
import os
import signal
import sys
from types import FrameType

CAUGHT = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
PR_SET_PDEATHSIG = 1


class StopRequest:
    """A flag that signals set; read between steps, in evaluation and in long loops."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self.name is not None

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._ask) for number in CAUGHT}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.name is not None:
            os._exit(128 + number)
        self.name = signal.Signals(number).name


def end_with_parent() -> None:
    """Have the system send SIGTERM when the process that began this one is gone, also by SIGKILL."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
