"""How fast Python is labelled: `python -m pellucid.eval.labels.speed [every]`.

Reads every n-th file of the standard library (all of them unless a number is given) and says how
many bytes of it one core labels in a second.
"""

import sys
import time

from pellucid.data.python_source import PythonCore
from pellucid.eval.labels.collecting import paused
from pellucid.eval.labels.python import python_marks


def speed(every: int) -> str:
    """One line: files, their size, CPU seconds, and MB of UTF-8 in a second."""
    files, size, start = 0, 0, time.process_time()
    with paused():
        for path in PythonCore(PythonCore.Config()).files()[::every]:
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            python_marks(text)
            files, size = files + 1, size + len(text.encode()) / 1e6
    seconds = time.process_time() - start
    return f"{files} files, {size:.2f} MB in {seconds:.1f} CPU s: {size / seconds:.2f} MB/s"


if __name__ == "__main__":
    print(speed(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
