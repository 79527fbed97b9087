"""The peak memory of a process is its own, and not that of the process that started it."""

import subprocess
import sys

from pellucid.experiments.memory import peak_of_process

HELD = 300
PRINT = "from pellucid.experiments.memory import peak_of_process as peak\n{}\nprint(peak())"


def peak_of_another(first: str) -> float:
    command = [sys.executable, "-c", PRINT.format(first)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_process_starts_without_the_peak_of_its_parent():
    held = bytearray(b"x") * (HELD * 2**20)
    assert peak_of_process() > len(held) / 2**20
    assert peak_of_another("") < HELD


def test_what_was_given_back_stays_in_the_peak():
    fill = f"x = bytearray(b'x') * ({HELD} * 2**20); del x"
    assert HELD < peak_of_another(fill) < HELD + 200
