"""The smallest version of `h3`: weights at a density of 1/64 beside the ladder; exploratory.

`pellucid sweep h3_minimal`, then `python -m pellucid.experiments.h3 grids/h3-minimal`. Three seeds,
five tasks, and the quick search; all else is as there.
"""

from dataclasses import replace

from pellucid.experiments import h3
from pellucid.sweep import Circuits

grid = replace(
    h3.grid,
    name="h3-minimal",
    axes={"arm": h3.grid.axes["arm"][:1]},
    seeds=(0, 1, 2),
    circuits=Circuits(h3.TASKS[:5], edges=True),
)
