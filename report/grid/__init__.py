"""A grid as one page: what was declared, what it cost, every arm with its interval, what failed.

Nothing of a grid's folder is trusted: see `pellucid.report.page`.
"""

from pellucid.report.grid.write import write_grid

__all__ = ["write_grid"]
