"""Ablations: grids of runs, the engines that run them, and the statistics of what they found.

A grid is a Python file that holds a `Grid`; `pellucid sweep FILE` runs the cells that are missing.
"""

from pellucid.sweep.circuits import Circuits
from pellucid.sweep.grid import Cell, Grid, GridError, load_grid
from pellucid.sweep.tuning import Tuning

__all__ = ["Cell", "Circuits", "Grid", "GridError", "Tuning", "load_grid"]
