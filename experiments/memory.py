"""How much memory a process has held at its peak."""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_of_process() -> float:
    """The most resident memory this process has had, in MB.

    From Linux's own count of this address space: `getrusage`, which others have alone, starts a new
    process at the peak of the one that started it.
    """
    if STATUS.exists():
        (peak,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")]
        return int(peak.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
