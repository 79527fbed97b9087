"""`pellucid bench kernels`, or `python -m pellucid.kernels.bench`: times of this machine.

It needs torch and, on a GPU, triton; nothing else of the project's dependencies. Where there is a
GPU, every operation is first held to its float64 definition, and what fails is not timed.
"""

from pellucid.kernels.bench.command import main

__all__ = ["main"]
